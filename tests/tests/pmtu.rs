//! ICMP errors about a pod's packets reach the pod, and the pod's ICMP errors reach their destination, with source NAT and
//! without.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use azure_cni_tests::{
    Fabric, FabricBuilder,
    IpVersion::{self, V4, V6},
    Pod, Result, Station, configure,
    probe::{self, Connection, ECHO_PORT, EchoServer, PATIENCE},
    query,
};

/// The narrow link's MTU: above the least that either version has to carry, below every other link's.
const NARROW: u16 = 1300;
/// Many segments, so that the first full one meets the limit while others are on their way.
const BULK: usize = 500_000;

/// With the service prefixes unknown and known: translated after the host's stack, and before it. Each also with the
/// checksums finished by the sender.
fn all_ways() -> Vec<FabricBuilder> {
    let builder = |services: Option<&str>, offload| {
        let builder = Fabric::builder().dual_stack().internet_mtu(NARROW).checksum_offload(offload);
        services.map_or(builder.clone(), |services| builder.agent_toml(services))
    };
    let known = Some("routing.service_prefixes = []");
    vec![builder(None, true), builder(None, false), builder(known, true), builder(known, false)]
}

/// The path MTU that the pod's kernel has learnt for an address.
fn path_mtu(pod: &Pod, to: IpAddr) -> Result<Option<u64>> {
    Ok(query(pod.namespace(), &format!("route get {to}"))?[0]["metrics"][0]["mtu"].as_u64())
}

fn echo_by(station: &dyn Station, version: IpVersion) -> Result<EchoServer> {
    EchoServer::start_on(station, (station.ip(version), ECHO_PORT))
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
fn translated_connection_learns_of_a_narrow_link_behind_the_router() -> Result<()> {
    for builder in all_ways() {
        let net = builder.agent_toml("snat.ipv6 = true").start()?;
        let vm = net.vm(0);
        let pods = [vm.add_pod("a")?];
        for version in [V4, V6] {
            let to = net.internet().ip(version);
            let echo = echo_by(net.internet(), version)?;
            let mut connection = Connection::open(&pods[0], echo.address())?;
            assert_eq!(connection.reached().source_seen.ip(), vm.ip(version));
            assert_eq!(path_mtu(&pods[0], to)?, None, "nothing was too long yet");
            connection.round_trip(&vec![0x5a; BULK])?;
            assert_eq!(path_mtu(&pods[0], to)?, Some(NARROW.into()), "to {to}");
        }
        assert_ends_clean(&net, &pods)?;
    }
    Ok(())
}

#[test]
fn routed_connection_learns_of_a_narrow_link_behind_the_router() -> Result<()> {
    for builder in all_ways() {
        let net = builder.internet_routes_pods6().start()?;
        let pods = [net.vm(0).add_pod("a")?];
        let echo = echo_by(net.internet(), V6)?;
        let mut connection = Connection::open(&pods[0], echo.address())?;
        assert_eq!(connection.reached().source_seen.ip(), pods[0].ip(V6));
        connection.round_trip(&vec![0x5a; BULK])?;
        assert_eq!(path_mtu(&pods[0], net.internet().ip(V6))?, Some(NARROW.into()));
        assert_ends_clean(&net, &pods)?;
    }
    Ok(())
}

#[test]
fn answers_to_an_inbound_connection_learn_of_a_narrow_link() -> Result<()> {
    for builder in all_ways() {
        let net = builder.internet_routes_pods6().start()?;
        let pods = [net.vm(0).add_pod("a")?];
        let route = format!("route add {} via 198.51.100.1", pods[0].address());
        configure(net.internet().namespace(), &route)?;
        for version in [V4, V6] {
            let echo = echo_by(&pods[0], version)?;
            Connection::open(net.internet(), echo.address())?.round_trip(&vec![0x5a; BULK])?;
            assert_eq!(path_mtu(&pods[0], net.internet().ip(version))?, Some(NARROW.into()));
        }
        assert_ends_clean(&net, &pods)?;
    }
    Ok(())
}

#[test]
fn traceroute_from_a_pod_names_the_vm_every_router_and_the_far_end() -> Result<()> {
    for builder in all_ways() {
        let net = builder.agent_toml("snat.ipv6 = true").start()?;
        let vm = net.vm(0);
        let pods = [vm.add_pod("a")?];
        for version in [V4, V6] {
            let to = net.internet().ip(version);
            let expected = [vec![vm.ip(version)], net.routers_to_internet(version), vec![to]].concat();
            assert_eq!(probe::traceroute(&pods[0], to)?, expected);
            let peer = net.peer().ip(version);
            assert_eq!(probe::traceroute(&pods[0], peer)?, [expected[0], expected[1], peer]);
        }
        assert_ends_clean(&net, &pods)?;
    }
    Ok(())
}

#[test]
fn pod_learns_that_no_process_listens_at_the_far_end() -> Result<()> {
    for builder in all_ways() {
        let net = builder.agent_toml("snat.ipv6 = true").start()?;
        let pods = [net.vm(0).add_pod("a")?];
        for version in [V4, V6] {
            for far in [net.internet(), net.peer()] {
                let nobody = SocketAddr::new(far.ip(version), 9999);
                let refused = probe::udp(&pods[0], nobody).expect_err("nobody listens");
                assert!(refused.to_string().contains("refused"), "{refused}");
                let refused = probe::tcp(&pods[0], nobody).expect_err("nobody listens");
                assert!(refused.to_string().contains("refused"), "{refused}");
            }
        }
        assert_ends_clean(&net, &pods)?;
    }
    Ok(())
}

#[test]
fn far_end_learns_that_the_pod_has_stopped_listening() -> Result<()> {
    for builder in all_ways() {
        let net = builder.agent_toml("snat.ipv6 = true").start()?;
        let vm = net.vm(0);
        let pods = [vm.add_pod("a")?];
        for version in [V4, V6] {
            let far = bind(net.internet(), version);
            let near = bind(&pods[0], version);
            near.send_to(b"hello", far.local_addr().expect("bound")).expect("a pod may send");
            let (_, translated) = far.recv_from(&mut [0; 16]).expect("it arrives");
            assert_eq!(translated.ip(), vm.ip(version));
            drop(near);
            far.connect(translated).expect("there is a route");
            far.send(b"are you still there?").expect("the far end may send");
            let told = far.recv(&mut [0; 16]).expect_err("nobody is there any more");
            assert_eq!(told.kind(), std::io::ErrorKind::ConnectionRefused, "{told}");
        }
        assert_ends_clean(&net, &pods)?;
    }
    Ok(())
}

fn bind(station: &dyn Station, version: IpVersion) -> UdpSocket {
    let address = SocketAddr::new(station.ip(version), 0);
    let socket = station.namespace().run(|| UdpSocket::bind(address)).expect("the address is its own");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket has one");
    socket
}

#[test]
fn ping_of_a_pod_is_answered_through_translation_one_identifier_each() -> Result<()> {
    for builder in all_ways() {
        let net = builder.vms(2).agent_toml("snat.ipv6 = true").start()?;
        let vm = net.vm(0);
        let pods = [vm.add_pod("a")?, vm.add_pod("b")?, net.vm(1).add_pod("c")?];
        for version in [V4, V6] {
            for pod in &pods {
                for to in [net.internet(), net.peer()] {
                    probe::ping(pod, to.ip(version))?;
                }
                probe::ping(pod, pods[1].ip(version))?;
            }
            let expired = probe::ping_with_ttl(&pods[0], net.internet().ip(version), 2)?;
            let router = net.routers_to_internet(version)[0];
            assert_eq!(expired, probe::IcmpAnswer::TimeExceeded { router });
        }
        assert_ends_clean(&net, &pods)?;
    }
    Ok(())
}
