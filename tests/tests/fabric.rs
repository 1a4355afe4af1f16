//! The fabric alone: its pods are attached with plain kernel routes instead of by the plugin, so that a failure here is
//! the fabric's own.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4},
    thread,
    time::Duration,
};

use azure_cni_tests::{
    Baseline, Error, Fabric, FabricBuilder, GATEWAY6,
    IpVersion::{self, V4, V6},
    Namespace, Result, Station, Vm, configure,
    probe::{self, Arrivals, Connection, ECHO_PORT, EchoServer, IcmpAnswer},
    query,
};

/// A pod that the VM's kernel routes to.
struct StandIn {
    namespace: Namespace,
    address: Ipv4Addr,
    address6: Option<Ipv6Addr>,
}

impl StandIn {
    fn on(vm: &Vm) -> Result<Self> {
        let name = format!("{}-pod", vm.name());
        let (namespace, address) = (Namespace::create(&name)?, vm.pool()[0]);
        let address6 = vm.pool6().first().copied();
        let mut outside = format!(
            "link add pod0 address aa:aa:aa:aa:aa:aa type veth peer name eth0 netns {name}\n\
             link set pod0 up\n\
             route add {address}/32 dev pod0\n"
        );
        let mut inside = format!(
            "link set eth0 up\n\
             addr add {address}/32 dev eth0\n\
             route add 169.254.1.1/32 dev eth0 scope link\n\
             route add default via 169.254.1.1 dev eth0\n\
             neigh add 169.254.1.1 lladdr aa:aa:aa:aa:aa:aa dev eth0 nud permanent\n"
        );
        if let Some(address6) = address6 {
            outside += &format!("addr add {GATEWAY6}/64 dev pod0 nodad\nroute add {address6} dev pod0\n");
            inside += &format!("addr add {address6}/128 dev eth0 nodad\nroute add default via {GATEWAY6} dev eth0\n");
        }
        configure(vm.namespace(), &outside)?;
        namespace.sysctl("net/ipv6/conf/eth0/accept_dad", "0")?;
        configure(&namespace, &inside)?;
        Ok(Self { namespace, address, address6 })
    }
}

impl Station for StandIn {
    fn name(&self) -> &str {
        self.namespace.name()
    }
    fn address(&self) -> Ipv4Addr {
        self.address
    }
    fn address6(&self) -> Option<Ipv6Addr> {
        self.address6
    }
    fn namespace(&self) -> &Namespace {
        &self.namespace
    }
}

fn plain() -> FabricBuilder {
    Fabric::builder().without_agents().pool(4)
}

/// Probes by TCP, UDP and ICMP; the far end must see the near end's own address.
fn assert_reaches(from: &dyn Station, to: &dyn Station) -> Result<()> {
    assert_reaches_by(from, to, V4)
}

fn assert_reaches_by(from: &dyn Station, to: &dyn Station, version: IpVersion) -> Result<()> {
    let echo = EchoServer::start_on(to, (to.ip(version), ECHO_PORT))?;
    assert_eq!(probe::tcp(from, echo.address())?.source_seen.ip(), from.ip(version));
    assert_eq!(probe::udp(from, echo.address())?.source_seen.ip(), from.ip(version));
    probe::ping(from, to.ip(version))?;
    Ok(())
}

fn assert_silent<T: std::fmt::Debug>(result: Result<T>) {
    match result {
        Err(Error::Probe { source, .. }) if source.kind() == io::ErrorKind::TimedOut => {}
        other => panic!("expected silence, got {other:?}"),
    }
}

#[test]
fn secondary_addresses_are_delivered_across_vms_with_their_own_source() -> Result<()> {
    let net = plain().vms(2).start()?;
    let (a, b) = (StandIn::on(net.vm(0))?, StandIn::on(net.vm(1))?);
    assert_reaches(&a, &b)?;
    assert_reaches(&b, &a)?;
    assert_reaches(net.vm(0), net.vm(1))?;
    assert_reaches(net.vm(0), &b)
}

#[test]
fn peered_host_and_pod_reach_each_other_with_their_own_source() -> Result<()> {
    let net = plain().start()?;
    let pod = StandIn::on(net.vm(0))?;
    assert_reaches(&pod, net.peer())?;
    assert_reaches(net.peer(), &pod)
}

#[test]
fn platform_host_and_pod_reach_each_other() -> Result<()> {
    let net = plain().start()?;
    let pod = StandIn::on(net.vm(0))?;
    assert_reaches(&pod, net.platform())?;
    assert_reaches(net.platform(), &pod)
}

#[test]
fn internet_answers_primary_addresses_and_never_a_pod_source() -> Result<()> {
    let net = plain().start()?;
    let pod = StandIn::on(net.vm(0))?;
    assert_reaches(net.vm(0), net.internet())?;

    let echo = EchoServer::start(net.internet())?;
    let arrivals = Arrivals::watch(net.internet())?;
    assert_silent(probe::tcp(&pod, echo.address()));
    assert_silent(probe::udp(&pod, echo.address()));
    assert_silent(probe::ping(&pod, net.internet().address()));
    let sources: BTreeSet<IpAddr> = arrivals.finish().iter().map(|arrival| arrival.source).collect();
    assert_eq!(sources, BTreeSet::from([pod.address().into()]), "the witness must have seen what nobody answered");
    Ok(())
}

#[test]
fn dual_stack_machines_and_pods_reach_each_other_by_both_versions() -> Result<()> {
    let net = plain().vms(2).dual_stack().internet_routes_pods6().start()?;
    let (a, b) = (StandIn::on(net.vm(0))?, StandIn::on(net.vm(1))?);
    for version in [V4, V6] {
        assert_reaches_by(&a, &b, version)?;
        assert_reaches_by(&a, net.peer(), version)?;
        assert_reaches_by(net.peer(), &b, version)?;
        assert_reaches_by(net.vm(0), net.vm(1), version)?;
        assert_reaches_by(net.vm(0), net.internet(), version)?;
        assert_reaches_by(net.vm(0), &b, version)?;
    }
    assert_reaches_by(&a, net.internet(), V6)?;
    assert_reaches_by(net.internet(), &a, V6)
}

#[test]
fn internet_answers_the_ipv6_addresses_of_pods_only_where_they_are_routed() -> Result<()> {
    let net = plain().dual_stack().start()?;
    let pod = StandIn::on(net.vm(0))?;
    assert_reaches_by(net.vm(0), net.internet(), V6)?;
    let witness = Arrivals::watch(net.internet())?;
    assert_silent(probe::ping(&pod, net.internet().ip(V6)));
    let sources: BTreeSet<IpAddr> = witness.finish().iter().map(|arrival| arrival.source).collect();
    assert_eq!(sources, [pod.ip(V6)].into());
    Ok(())
}

#[test]
fn unused_address_is_silent() -> Result<()> {
    let net = plain().start()?;
    let nobody = SocketAddrV4::new(Ipv4Addr::new(10, 240, 77, 7), probe::ECHO_PORT);
    assert_silent(probe::tcp(net.vm(0), nobody));
    assert_silent(probe::ping(net.vm(0), *nobody.ip()));
    Ok(())
}

#[test]
fn time_to_live_counts_every_router() -> Result<()> {
    let net = plain().vms(2).start()?;
    let (a, b) = (StandIn::on(net.vm(0))?, StandIn::on(net.vm(1))?);
    let expired = probe::ping_with_ttl(&a, b.address(), 1)?;
    assert_eq!(expired, IcmpAnswer::TimeExceeded { router: net.vm(0).address().into() });
    // Three routers: the VM, the fabric, the other VM.
    assert!(matches!(probe::ping_with_ttl(&a, b.address(), 3)?, IcmpAnswer::TimeExceeded { .. }));
    assert!(matches!(probe::ping_with_ttl(&a, b.address(), 4)?, IcmpAnswer::Reply { .. }));
    Ok(())
}

#[test]
fn data_survives_with_checksum_offload_on_and_off() -> Result<()> {
    let data: Vec<u8> = (0..200_000u32).map(|byte| byte as u8).collect();
    for offload in [true, false] {
        let net = plain().vms(2).checksum_offload(offload).start()?;
        let echo = EchoServer::start(net.vm(1))?;
        let mut connection = Connection::open(net.vm(0), echo.address())?;
        connection.round_trip(&data)?;
    }
    Ok(())
}

#[test]
fn mtu_is_the_configured_one() -> Result<()> {
    let net = plain().mtu(1400).start()?;
    let links = query(net.vm(0).namespace(), "link show dev eth0")?;
    assert_eq!(links[0]["mtu"], 1400);
    Ok(())
}

#[test]
fn throughput_and_latency_are_measured() -> Result<()> {
    let net = plain().start()?;
    let bare = Baseline::beside(&net)?;
    let echo = EchoServer::start(&bare.far)?;
    assert!(probe::latency(&bare.near, echo.address(), 50)? > Duration::ZERO);
    assert!(probe::throughput(&bare.near, &bare.far, 1, 1)? > 1e6);
    Ok(())
}

#[test]
fn networks_with_the_same_addresses_do_not_meet() -> Result<()> {
    let net = plain().start()?;
    let _echo = EchoServer::start(net.vm(0))?;
    thread::scope(|scope| {
        let other = scope.spawn(|| -> Result<()> {
            let net = Fabric::builder().without_agents().vms(2).start()?;
            let here = SocketAddrV4::new(net.vm(0).address(), probe::ECHO_PORT);
            let refused = probe::tcp(net.vm(1), here).expect_err("only the other network serves there");
            assert!(refused.to_string().contains("refused"), "{refused}");
            Ok(())
        });
        other.join().expect("does not panic")
    })
}
