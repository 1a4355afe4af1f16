//! Source NAT: which port of the VM's primary address a pod's flow leaves from.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    ops::RangeInclusive,
    thread,
};

use azure_cni_tests::{
    Fabric, FabricBuilder, Pod, Result, Station,
    probe::{self, Connection, EchoServer},
};

/// The default of `snat.port_range`.
const RANGE: RangeInclusive<u16> = 1024..=29_999;

/// With the service prefixes unknown and known: translated after the host's stack, and before it.
fn both_ways() -> [FabricBuilder; 2] {
    [Fabric::builder(), Fabric::builder().agent_toml("routing.service_prefixes = []")]
}

fn from_port(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port)
}

#[test]
fn source_port_is_kept_if_free_and_else_taken_from_the_range() -> Result<()> {
    const PORT: u16 = 5000;
    for builder in both_ways() {
        let net = builder.agent_toml("snat.pod_port_share = 100").start()?;
        let vm = net.vm(0);
        let (a, b) = (vm.add_pod("a")?, vm.add_pod("b")?);
        let echo = EchoServer::start(net.internet())?;
        let kept = SocketAddr::from((vm.address(), PORT));

        let mut first = Connection::open_from(&a, from_port(PORT), echo.address())?;
        assert_eq!(first.reached().source_seen, kept);
        let mut second = Connection::open_from(&b, from_port(PORT), echo.address())?;
        assert_moved(second.reached().source_seen, kept);
        let mut outside = Connection::open_from(&a, from_port(40_000), echo.address())?;
        assert_moved(outside.reached().source_seen, kept);
        for connection in [&mut first, &mut second, &mut outside] {
            connection.round_trip(b"still mine")?;
        }

        assert_eq!(probe::udp_from(&a, from_port(PORT), echo.address())?.source_seen, kept);
        assert_moved(probe::udp_from(&b, from_port(PORT), echo.address())?.source_seen, kept);
        assert_moved(probe::udp_from(&a, from_port(40_000), echo.address())?.source_seen, kept);
        // The same flow again keeps its port.
        assert_eq!(probe::udp_from(&a, from_port(PORT), echo.address())?.source_seen, kept);

        drop((first, second, outside));
        [a, b].iter().try_for_each(Pod::del)?;
        vm.expect_clean()?;
    }
    Ok(())
}

fn assert_moved(seen: SocketAddr, kept: SocketAddr) {
    assert_eq!(seen.ip(), kept.ip());
    assert_ne!(seen.port(), kept.port(), "two flows share a port");
    assert!(RANGE.contains(&seen.port()), "port {} is outside of the range", seen.port());
}

#[test]
fn hundreds_of_connections_to_one_destination_each_hold_a_port_of_their_own() -> Result<()> {
    const EACH: u16 = 150;
    for builder in both_ways() {
        let net = builder.start()?;
        let vm = net.vm(0);
        let pods = [vm.add_pod("a")?, vm.add_pod("b")?];
        let echo = EchoServer::start(net.internet())?;
        // The same source ports in both pods: every second one must move.
        let open_all =
            |pod| (0..EACH).map(|n| Connection::open_from(pod, from_port(20_000 + n), echo.address())).collect();
        let mut connections: Vec<Connection> = Vec::new();
        thread::scope(|scope| -> Result<()> {
            let workers: Vec<_> =
                pods.iter().map(|pod| scope.spawn(move || -> Result<Vec<_>> { open_all(pod) })).collect();
            for worker in workers {
                connections.extend(worker.join().expect("does not panic")?);
            }
            Ok(())
        })?;
        let seen: BTreeSet<SocketAddr> =
            connections.iter().map(|connection| connection.reached().source_seen).collect();
        assert_eq!(seen.len(), 2 * usize::from(EACH), "two connections came from one port");
        assert!(seen.iter().all(|source| source.ip() == vm.address() && RANGE.contains(&source.port())));
        for (number, connection) in connections.iter_mut().enumerate() {
            connection.round_trip(format!("message of connection {number}").as_bytes())?;
        }
        assert_eq!(vm.dropped()?, [].into());
        drop(connections);
        pods.iter().try_for_each(Pod::del)?;
        vm.expect_clean()?;
    }
    Ok(())
}

#[test]
fn full_range_refuses_and_counts_new_flows_and_leaves_live_ones_alone() -> Result<()> {
    const PORTS: usize = 16;
    for builder in both_ways() {
        let net = builder.agent_toml("snat.port_range = '2000-2015'").start()?;
        let vm = net.vm(0);
        let pod = vm.add_pod("a")?;
        let echo = EchoServer::start(net.internet())?;
        let mut live = (0..PORTS).map(|_| Connection::open(&pod, echo.address())).collect::<Result<Vec<_>>>()?;

        let refused = probe::tcp(&pod, echo.address()).expect_err("there is no port left");
        assert!(refused.is_silence(), "{refused}");
        assert!(vm.drops()?["nat_ports_exhausted"] > 0);
        live.iter_mut().try_for_each(|connection| connection.round_trip(b"alive").map(drop))?;

        // Ports are held per destination.
        let dns = EchoServer::start_on(net.platform(), SocketAddrV4::new(net.platform().address(), 53))?;
        assert_eq!(probe::tcp(&pod, dns.address())?.source_seen.ip(), vm.address());
        assert_eq!(probe::udp(&pod, echo.address())?.source_seen.ip(), vm.address());
        drop(live);
        pod.del()?;
        vm.expect_clean()?;
    }
    Ok(())
}

#[test]
fn port_that_a_socket_of_the_host_uses_is_given_to_no_pod() -> Result<()> {
    const PORT: u16 = 6000;
    for builder in both_ways() {
        let net = builder.start()?;
        let vm = net.vm(0);
        let pod = vm.add_pod("a")?;
        let echo = EchoServer::start(net.internet())?;
        let mut host = Connection::open_from(vm, from_port(PORT), echo.address())?;
        assert_eq!(host.reached().source_seen, host.reached().source_used);
        let mut translated = Connection::open_from(&pod, from_port(PORT), echo.address())?;
        assert_moved(translated.reached().source_seen, host.reached().source_seen);
        host.round_trip(b"the host's")?;
        translated.round_trip(b"the pod's")?;
        drop((host, translated));
        pod.del()?;
        vm.expect_clean()?;
    }
    Ok(())
}
