//! The VM as a router: hop limits, and packets that are too long.

use std::net::Ipv4Addr;

use azure_cni_tests::{
    Fabric, Pod, Result, Station,
    probe::{self, Arrivals, Connection, EchoServer, IcmpAnswer},
    query,
};

/// The hop limit of a host's own packets (RFC 1700, and net.ipv4.ip_default_ttl).
const INITIAL_TTL: u8 = 64;

#[test]
fn first_packet_of_a_new_pod_arrives() -> Result<()> {
    let net = Fabric::builder().pool(20).start()?;
    let vm = net.vm(0);
    let (neighbour, echo_outside) = (vm.add_pod("neighbour")?, EchoServer::start(net.internet())?);
    let echo_inside = EchoServer::start(&neighbour)?;
    let echo_host = EchoServer::start(vm)?;
    // Each is the first datagram of its pod, and it is not sent again.
    for (number, to) in [&echo_outside, &echo_inside, &echo_host].into_iter().cycle().take(18).enumerate() {
        let pod = vm.add_pod(&format!("pod{number}"))?;
        probe::udp(&pod, to.address())?;
        pod.del()?;
    }
    neighbour.del()?;
    vm.expect_clean()
}

#[test]
fn hop_limit_of_one_is_answered_by_the_vm_on_every_path() -> Result<()> {
    let net = Fabric::builder().vms(2).agent_toml("routing.service_prefixes = []").start()?;
    let vm = net.vm(0);
    let pods = [vm.add_pod("a")?, vm.add_pod("b")?, net.vm(1).add_pod("c")?];
    let [pod, neighbour, remote] = &pods;
    let expired_at = |router: Ipv4Addr| IcmpAnswer::TimeExceeded { router: router.into() };

    for to in [neighbour.address(), remote.address(), net.internet().address(), net.peer().address()] {
        assert_eq!(probe::ping_with_ttl(pod, to, 1)?, expired_at(vm.address()), "to {to}");
    }
    // One router between neighbours; between VMs there are three, and the last of them is the other VM.
    assert!(matches!(probe::ping_with_ttl(pod, neighbour.address(), 2)?, IcmpAnswer::Reply { .. }));
    assert_eq!(probe::ping_with_ttl(pod, remote.address(), 3)?, expired_at(net.vm(1).address()));
    assert!(matches!(probe::ping_with_ttl(pod, remote.address(), 4)?, IcmpAnswer::Reply { .. }));
    pods.iter().try_for_each(Pod::del)?;
    net.vms().iter().try_for_each(|vm| vm.expect_clean())
}

#[test]
fn every_router_takes_one_from_the_hop_limit() -> Result<()> {
    for services in [None, Some("routing.service_prefixes = []")] {
        let builder = Fabric::builder().vms(2);
        let net = services.map_or(builder.clone(), |overlay| builder.agent_toml(overlay)).start()?;
        let pods = [net.vm(0).add_pod("a")?, net.vm(0).add_pod("b")?, net.vm(1).add_pod("c")?];
        let [pod, neighbour, remote] = &pods;
        let paths: [(&dyn Station, &dyn Station, u8); 5] = [
            (pod, neighbour, 1),
            (pod, remote, 3),
            (pod, net.internet(), 2),
            (net.peer(), pod, 2),
            (net.vm(0), pod, 0),
        ];
        for (from, to, routers) in paths {
            let echo = EchoServer::start(to)?;
            let witness = Arrivals::watch(to)?;
            probe::udp(from, echo.address())?;
            let left: Vec<u8> = witness.finish().iter().map(|arrival| arrival.ttl).collect();
            assert_eq!(left, [INITIAL_TTL - routers], "{} -> {}", from.name(), to.name());
        }
        pods.iter().try_for_each(Pod::del)?;
        net.vms().iter().try_for_each(|vm| vm.expect_clean())?;
    }
    Ok(())
}

#[test]
fn pod_learns_of_a_path_that_carries_less_than_its_own_interface() -> Result<()> {
    for services in [None, Some("routing.service_prefixes = []")] {
        let builder = Fabric::builder().vms(2).mtu(1400).agent_toml("datapath.mtu = 1500");
        let net = services.map_or(builder.clone(), |overlay| builder.agent_toml(overlay)).start()?;
        let pods = [net.vm(0).add_pod("a")?, net.vm(0).add_pod("b")?, net.vm(1).add_pod("c")?];
        let [pod, neighbour, remote] = &pods;
        let data = vec![0x5a; 300_000];
        for (to, path_mtu) in
            [(neighbour as &dyn Station, None), (remote, Some(1400)), (net.internet(), None), (net.peer(), None)]
        {
            let echo = EchoServer::start(to)?;
            Connection::open(pod, echo.address())?.round_trip(&data)?;
            // An end with a segment size that fits never meets the limit. The other pod's is as large as ours.
            let route = query(pod.namespace(), &format!("route get {}", to.address()))?;
            assert_eq!(route[0]["metrics"][0]["mtu"].as_u64(), path_mtu, "to {}", to.name());
        }
        pods.iter().try_for_each(Pod::del)?;
        net.vms().iter().try_for_each(|vm| vm.expect_clean())?;
    }
    Ok(())
}
