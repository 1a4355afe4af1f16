//! The probes and the routers alone, between machines without an agent: a failure here is their own.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use azure_cni_tests::{
    Fabric, FabricBuilder,
    IpVersion::{V4, V6},
    Result, Station, configure,
    probe::{self, Arrivals, Connection, Crowd, ECHO_PORT, EchoServer, RawSender},
    query,
};

fn plain() -> FabricBuilder {
    Fabric::builder().without_agents().pool(4)
}

#[test]
fn narrow_link_to_the_internet_is_announced_by_the_router_before_it() -> Result<()> {
    const NARROW: u16 = 1300;
    let net = plain().dual_stack().internet_routes_pods6().internet_mtu(NARROW).start()?;
    let vm = net.vm(0);
    for version in [V4, V6] {
        let to = net.internet().ip(version);
        let echo = EchoServer::start_on(net.internet(), (to, ECHO_PORT))?;
        Connection::open(vm, echo.address())?.round_trip(&[0x5a; 300_000])?;
        let route = query(vm.namespace(), &format!("route get {to}"))?;
        assert_eq!(route[0]["metrics"][0]["mtu"], NARROW, "to {to}");
    }
    Ok(())
}

#[test]
fn traceroute_names_every_router_and_the_far_end() -> Result<()> {
    let net = plain().dual_stack().internet_mtu(1500).start()?;
    for version in [V4, V6] {
        let to = net.internet().ip(version);
        let expected = [net.routers_to_internet(version), vec![to]].concat();
        assert_eq!(expected.len(), 3);
        assert_eq!(probe::traceroute(net.vm(0), to)?, expected);
        let pod_way = probe::traceroute(net.vm(0), net.peer().ip(version))?;
        assert_eq!(pod_way, [expected[0], net.peer().ip(version)]);
    }
    Ok(())
}

#[test]
fn fragments_in_any_order_make_a_datagram() -> Result<()> {
    let net = plain().dual_stack().start()?;
    let (from, to) = (net.peer(), net.vm(0));
    for version in [V4, V6] {
        let socket = to.namespace().run(|| UdpSocket::bind((to.ip(version), 4000))).expect("the port is free");
        socket.set_read_timeout(Some(probe::PATIENCE)).expect("a socket has one");
        let source = SocketAddr::new(from.ip(version), 4001);
        let data: Vec<u8> = (0..4_000u32).map(|byte| byte as u8).collect();
        let raw = RawSender::open(from, to.ip(version))?;
        for piece in probe::fragments(source, socket.local_addr().expect("bound"), &data, 1500, 7).iter().rev() {
            raw.send(piece)?;
        }
        let mut buffer = [0; 8_000];
        let (length, seen) = socket.recv_from(&mut buffer).expect("it arrives");
        assert_eq!((&buffer[..length], seen), (&data[..], source));
        probe::datagram(from, to, to.ip(version), &data)?;
        probe::ping_of_size(from, to.ip(version), 4_000)?;
    }
    Ok(())
}

#[test]
fn flood_arrives_from_as_many_sources_as_it_names_at_the_rate_it_names() -> Result<()> {
    let net = plain().start()?;
    let (from, to) = (net.internet(), net.vm(0));
    let witness = Arrivals::watch(to)?;
    let sources: BTreeSet<IpAddr> = (1..=200).map(|host| IpAddr::from([203, 0, 113, host])).collect();
    let begin = Instant::now();
    let spoofed = sources.iter().map(|&source| SocketAddr::new(source, 1024));
    probe::syn_flood(from, spoofed, (to.address(), 80).into(), 1_000)?;
    assert!(begin.elapsed() > Duration::from_millis(150), "{:?}", begin.elapsed());
    thread::sleep(Duration::from_millis(50));
    let seen: BTreeSet<IpAddr> = witness.finish().iter().map(|arrival| arrival.source).collect();
    assert_eq!(seen, sources);
    Ok(())
}

#[test]
fn crowd_of_connections_carries_data_until_one_is_cut() -> Result<()> {
    let net = plain().start()?;
    let mut crowd = Crowd::open(net.vm(0), net.internet(), net.internet().address(), 100)?;
    assert_eq!(crowd.sources_seen().collect::<BTreeSet<_>>().len(), 100);
    crowd.exchange()?;
    configure(net.internet().namespace(), &format!("route del {}", net.vm(0).address()))?;
    let cut = crowd.exchange().expect_err("the way back is gone");
    assert!(cut.is_silence(), "{cut}");
    Ok(())
}

#[test]
fn many_flows_from_one_address_are_answered_each() -> Result<()> {
    let net = plain().start()?;
    let echo = EchoServer::start(net.internet())?;
    let reached = probe::udp_from_each(net.vm(0), 20_000..=20_999, echo.address())?;
    let ports: BTreeSet<u16> = reached.iter().map(|reached| reached.source_seen.port()).collect();
    assert_eq!(ports, (20_000..=20_999).collect());
    Ok(())
}
