//! Fragments of datagrams that are longer than the links: on every path, through source NAT, and out of order.

use std::{
    net::{SocketAddr, UdpSocket},
    thread,
    time::Duration,
};

use azure_cni_tests::{
    Fabric, FabricBuilder,
    IpVersion::{self, V4, V6},
    Pod, Result, Station, configure,
    probe::{self, PATIENCE, RawSender},
};

/// Three fragments, and the most that fits one datagram.
const LENGTHS: [usize; 2] = [4_000, 65_000];
const MTU: usize = 1500;

/// With the service prefixes unknown and known, and with checksums left to the device and finished ones.
fn all_ways() -> Vec<FabricBuilder> {
    let builder = || Fabric::builder().vms(2).dual_stack();
    vec![
        builder(),
        builder().checksum_offload(false),
        builder().agent_toml("routing.service_prefixes = []"),
        builder().agent_toml("routing.service_prefixes = []").checksum_offload(false),
    ]
}

fn data(length: usize) -> Vec<u8> {
    (0..length).map(|byte| (byte / 251) as u8 ^ byte as u8).collect()
}

/// Ends a test: nothing was dropped, and nothing is left.
fn assert_ends_clean(net: &Fabric, pods: &[Pod]) -> Result<()> {
    for vm in net.vms() {
        assert_eq!(vm.dropped()?, [].into(), "{}", vm.name());
    }
    pods.iter().try_for_each(Pod::del)?;
    net.vms().iter().try_for_each(|vm| vm.expect_clean())
}

#[test]
fn long_datagram_arrives_whole_and_is_answered_by_every_path() -> Result<()> {
    for builder in all_ways() {
        let net = builder.internet_routes_pods6().start()?;
        let vm = net.vm(0);
        let pods = [vm.add_pod("a")?, vm.add_pod("b")?, net.vm(1).add_pod("c")?];
        let [pod, neighbour, remote] = &pods;
        let paths: [(&dyn Station, &dyn Station); 8] = [
            (pod, neighbour),
            (pod, remote),
            (remote, pod),
            (pod, vm),
            (vm, pod),
            (pod, net.vm(1)),
            (pod, net.peer()),
            (net.peer(), pod),
        ];
        for version in [V4, V6] {
            for (from, to) in paths {
                for length in LENGTHS {
                    let reached = probe::datagram(from, to, to.ip(version), &data(length))?;
                    assert_eq!(reached.source_seen.ip(), from.ip(version), "{} -> {}", from.name(), to.name());
                }
            }
        }
        // Routed, not translated.
        let reached = probe::datagram(pod, net.internet(), net.internet().ip(V6), &data(LENGTHS[0]))?;
        assert_eq!(reached.source_seen.ip(), pod.ip(V6));
        assert_ends_clean(&net, &pods)?;
    }
    Ok(())
}

#[test]
fn long_datagram_to_the_internet_is_translated_whole_and_so_is_its_answer() -> Result<()> {
    for builder in all_ways() {
        let net = builder.agent_toml("snat.ipv6 = true").start()?;
        let vm = net.vm(0);
        let pods = [vm.add_pod("a")?, vm.add_pod("b")?];
        for version in [V4, V6] {
            for pod in &pods {
                for length in LENGTHS {
                    let to = net.internet();
                    let reached = probe::datagram(pod, to, to.ip(version), &data(length))?;
                    assert_eq!(reached.source_seen.ip(), vm.ip(version));
                }
            }
        }
        assert_ends_clean(&net, &pods)?;
    }
    Ok(())
}

#[test]
fn long_datagrams_of_many_flows_at_once_do_not_mix() -> Result<()> {
    let net = Fabric::builder().agent_toml("routing.service_prefixes = []").start()?;
    let vm = net.vm(0);
    let pods = [vm.add_pod("a")?, vm.add_pod("b")?];
    let to = net.internet();
    thread::scope(|scope| {
        let senders: Vec<_> = (0..8)
            .map(|number| {
                let pod = &pods[number % 2];
                scope.spawn(move || {
                    (0..20).try_for_each(|turn| {
                        let data = vec![(number * 20 + turn) as u8; 3_000 + 100 * turn];
                        probe::datagram(pod, to, to.address(), &data).map(drop)
                    })
                })
            })
            .collect();
        senders.into_iter().try_for_each(|sender| sender.join().expect("does not panic"))
    })?;
    assert_ends_clean(&net, &pods)
}

#[test]
fn long_ping_is_answered_whole_by_every_path() -> Result<()> {
    for builder in all_ways() {
        let net = builder.agent_toml("snat.ipv6 = true").start()?;
        let vm = net.vm(0);
        let pods = [vm.add_pod("a")?, vm.add_pod("b")?, net.vm(1).add_pod("c")?];
        let [pod, neighbour, remote] = &pods;
        let ends: [&dyn Station; 5] = [neighbour, remote, vm, net.peer(), net.internet()];
        for version in [V4, V6] {
            for to in ends {
                probe::ping_of_size(pod, to.ip(version), LENGTHS[0])?;
            }
            probe::ping_of_size(net.peer(), pod.ip(version), LENGTHS[0])?;
        }
        assert_ends_clean(&net, &pods)?;
    }
    Ok(())
}

/// The socket that the fragments must reach, and one of the sender for the reply.
fn ends(from: &dyn Station, to: &dyn Station, version: IpVersion) -> (UdpSocket, UdpSocket) {
    let bind = |station: &dyn Station| {
        let address = SocketAddr::new(station.ip(version), 0);
        let socket = station.namespace().run(|| UdpSocket::bind(address)).expect("the address is its own");
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket has one");
        socket
    };
    (bind(from), bind(to))
}

/// Sends a datagram in fragments of which the first comes last; it must arrive whole, from `promised`.
fn assert_arrives_backwards(from: &dyn Station, to: &dyn Station, promised: &dyn Station, version: IpVersion) {
    let (near, far) = ends(from, to, version);
    let [source, destination] = [&near, &far].map(|socket| socket.local_addr().expect("bound"));
    let sent = data(LENGTHS[0]);
    let raw = RawSender::open(from, destination.ip()).expect("root");
    for piece in probe::fragments(source, destination, &sent, MTU, source.port()).iter().rev() {
        raw.send(piece).expect("there is a route");
    }
    let path = format!("{source} -> {destination}");
    let mut buffer = [0; 8_000];
    let (length, seen) = far.recv_from(&mut buffer).unwrap_or_else(|error| panic!("{path}: {error}"));
    assert_eq!(&buffer[..length], sent, "{path}");
    assert_eq!(seen.ip(), promised.ip(version), "{path}");
    far.send_to(b"thank you", seen).expect("there is a way back");
    near.recv_from(&mut buffer).unwrap_or_else(|error| panic!("answer of {path}: {error}"));
}

#[test]
fn later_fragments_that_come_before_the_first_are_not_lost_where_nothing_is_translated() -> Result<()> {
    for builder in all_ways() {
        let net = builder.internet_routes_pods6().start()?;
        let vm = net.vm(0);
        let pods = [vm.add_pod("a")?, vm.add_pod("b")?, net.vm(1).add_pod("c")?];
        let [pod, neighbour, remote] = &pods;
        for version in [V4, V6] {
            let paths: [(&dyn Station, &dyn Station); 5] =
                [(pod, neighbour), (pod, remote), (pod, net.peer()), (net.peer(), pod), (vm, pod)];
            for (from, to) in paths {
                assert_arrives_backwards(from, to, from, version);
            }
        }
        assert_arrives_backwards(pod, net.internet(), pod, V6);
        assert_ends_clean(&net, &pods)?;
    }
    Ok(())
}

#[test]
fn fragments_of_an_inbound_flow_are_answered_with_the_pods_own_source() -> Result<()> {
    for builder in all_ways() {
        let net = builder.internet_routes_pods6().start()?;
        let pods = [net.vm(0).add_pod("a")?];
        let route = format!("route add {} via 198.51.100.1", pods[0].address());
        configure(net.internet().namespace(), &route)?;
        for version in [V4, V6] {
            let reached = probe::datagram(net.internet(), &pods[0], pods[0].ip(version), &data(LENGTHS[0]))?;
            assert_eq!(reached.source_seen, reached.source_used);
        }
        assert_ends_clean(&net, &pods)?;
    }
    Ok(())
}

#[test]
fn fragment_without_its_first_is_not_delivered_and_does_no_harm() -> Result<()> {
    let net = Fabric::builder().agent_toml("routing.service_prefixes = []").start()?;
    let vm = net.vm(0);
    let pods = [vm.add_pod("a")?];
    let to = net.internet();
    let witness = probe::Arrivals::watch(to)?;
    let (source, destination) = ((pods[0].address(), 4000).into(), (to.address(), 4000).into());
    let raw = RawSender::open(&pods[0], to.address())?;
    for piece in &probe::fragments(source, destination, &data(LENGTHS[0]), MTU, 77)[1..] {
        raw.send(piece)?;
    }
    thread::sleep(Duration::from_millis(100));
    let untranslated = witness.finish().into_iter().find(|arrival| arrival.source == pods[0].address());
    assert_eq!(untranslated, None, "a packet with the pod's source got out");
    probe::datagram(&pods[0], to, to.address(), &data(LENGTHS[0]))?;
    pods.iter().try_for_each(Pod::del)?;
    vm.expect_clean()
}
