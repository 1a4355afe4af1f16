//! What a pod may not send: to the platform's host agent, or with a source that is not its own. Dropped, and counted.

use std::net::{Ipv4Addr, SocketAddrV4};

use azure_cni_tests::{
    Fabric, Pod, Result, Station, configure,
    probe::{self, Arrivals, ECHO_PORT, EchoServer},
};

/// The platform's instance metadata service.
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

#[test]
fn host_agent_of_the_platform_answers_the_vm_and_never_a_pod() -> Result<()> {
    for services in [None, Some("routing.service_prefixes = []")] {
        let net = services.map_or(Fabric::builder(), |overlay| Fabric::builder().agent_toml(overlay)).start()?;
        let vm = net.vm(0);
        let pod = vm.add_pod("a")?;
        for port in [80, 32526] {
            let agent = EchoServer::start_on(net.platform(), SocketAddrV4::new(net.platform().address(), port))?;
            let before = vm.drops()?["platform_blocked"];
            let witness = Arrivals::watch(net.platform())?;
            let refused = probe::tcp(&pod, agent.address()).expect_err("pods may not");
            assert!(refused.is_silence(), "{refused}");
            assert_eq!(witness.finish(), [], "port {port}");
            assert!(vm.drops()?["platform_blocked"] > before, "port {port}");
            probe::tcp(vm, agent.address())?;
        }
        pod.del()?;
        vm.expect_clean()?;
    }
    Ok(())
}

#[test]
fn dns_and_metadata_of_the_platform_see_the_vms_primary_address() -> Result<()> {
    for services in [None, Some("routing.service_prefixes = []")] {
        let net = services.map_or(Fabric::builder(), |overlay| Fabric::builder().agent_toml(overlay)).start()?;
        let vm = net.vm(0);
        let platform = net.platform();
        configure(platform.namespace(), &format!("addr add {METADATA}/32 dev lo"))?;
        let route = format!("route add {METADATA}/32 via {} dev platform", platform.address());
        configure(net.router(), &route)?;
        let pod = vm.add_pod("a")?;
        for service in [SocketAddrV4::new(platform.address(), 53), SocketAddrV4::new(METADATA, 80)] {
            let echo = EchoServer::start_on(platform, service)?;
            assert_eq!(probe::tcp(&pod, echo.address())?.source_seen.ip(), vm.address());
            assert_eq!(probe::udp(&pod, echo.address())?.source_seen.ip(), vm.address());
        }
        pod.del()?;
        vm.expect_clean()?;
    }
    Ok(())
}

#[test]
fn packet_from_an_address_that_is_not_the_pods_own_is_dropped_and_counted() -> Result<()> {
    for attach in ["tcx", "clsact"] {
        let net = Fabric::builder().agent_toml(&format!("datapath.attach = '{attach}'")).start()?;
        let vm = net.vm(0);
        let pods = [vm.add_pod("a")?, vm.add_pod("b")?];
        let [pod, neighbour] = &pods;
        let free = *vm.pool().last().expect("the pool has addresses");
        let forged = [neighbour.address(), free, vm.address(), Ipv4Addr::new(203, 0, 113, 9)];
        for (number, source) in (1..).zip(forged) {
            configure(pod.namespace(), &format!("addr add {source}/32 dev eth0"))?;
            let witness = Arrivals::watch(net.peer())?;
            let to = SocketAddrV4::new(net.peer().address(), ECHO_PORT);
            let silence = probe::udp_from(pod, SocketAddrV4::new(source, 0), to).expect_err("nobody gets it");
            assert!(silence.is_silence(), "{silence}");
            assert_eq!(witness.finish(), [], "{source}");
            assert_eq!(vm.dropped()?, [("source_not_owned".to_owned(), number)].into(), "{source}");
            configure(pod.namespace(), &format!("addr del {source}/32 dev eth0"))?;
        }
        // Its own address still works.
        let echo = EchoServer::start(net.peer())?;
        probe::udp(pod, echo.address())?;
        pods.iter().try_for_each(Pod::del)?;
        vm.expect_clean()?;
    }
    Ok(())
}
