//! Inbound connections to a pod: the replies have the pod's own address, wherever the connection comes from.

use std::{
    collections::BTreeSet,
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddrV4, SocketAddrV6, TcpListener, TcpStream, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use azure_cni_tests::{
    Fabric, GATEWAY6,
    IpVersion::{self, V4, V6},
    Namespace, Result, Station, Vm, configure, nft,
    probe::{self, Arrivals, Connection, ECHO_PORT, EchoServer, PATIENCE},
    query,
};

/// Far longer than a packet takes from one end of the network to the other.
const SETTLED: Duration = Duration::from_millis(100);
/// The gateway of the Internet's host.
const INTERNET_GATEWAY: &str = "198.51.100.1";

#[test]
fn packet_for_an_address_of_the_pool_that_no_pod_has_is_dropped_where_it_comes_first() -> Result<()> {
    let net = Fabric::builder().vms(2).dual_stack().start()?;
    let (vm, peer) = (net.vm(0), net.vm(1));
    let pod = vm.add_pod("a")?;
    let has_pod = |address: &IpAddr| [pod.ip(V4), pod.ip(V6)].contains(address);
    let pool = vm.pool().iter().copied().map(IpAddr::V4).chain(vm.pool6().iter().copied().map(IpAddr::V6));
    let unused: Vec<IpAddr> = pool.filter(|address| !has_pod(address)).collect();
    let back_at_the_router = Arrivals::watch(peer)?;
    for address in &unused {
        probe::udp_send_from_each(peer, [5000], (*address, 7000))?;
        probe::udp_send_from_each(&pod, [5000], (*address, 7000))?;
    }
    thread::sleep(SETTLED);
    // Once for each packet: one that goes round would be counted for every round.
    let dropped = vm.dropped()?;
    assert_eq!(dropped, [("no_such_pod".to_owned(), 2 * unused.len() as u64)].into());
    let answers = back_at_the_router.finish();
    assert!(!answers.iter().any(|arrival| unused.contains(&arrival.source)), "{answers:?}");
    pod.del()?;
    vm.expect_clean()
}

#[test]
fn reply_to_an_inbound_connection_keeps_the_pods_source_while_its_own_connections_are_translated() -> Result<()> {
    for services in [None, Some("routing.service_prefixes = []")] {
        let net = services.map_or(Fabric::builder(), |overlay| Fabric::builder().agent_toml(overlay)).start()?;
        let vm = net.vm(0);
        let pod = vm.add_pod("a")?;
        // As a public address or a load balancer does: packets to another address are delivered to the pod.
        let route = format!("route add {}/32 via {INTERNET_GATEWAY}", pod.address());
        configure(net.internet().namespace(), &route)?;

        let inside = EchoServer::start(&pod)?;
        for outside in [net.internet(), net.platform()] {
            let far = EchoServer::start_on(outside, SocketAddrV4::new(outside.address(), 53))?;
            let witness = Arrivals::watch(outside)?;
            // Both ends of these sockets are connected, so a reply with another source would not be accepted.
            let mut inbound = Connection::open(outside, inside.address())?;
            assert_eq!(inbound.reached().source_seen.ip(), outside.address());
            assert_eq!(probe::udp(outside, inside.address())?.source_seen.ip(), outside.address());
            probe::ping(outside, pod.address())?;
            let sources: BTreeSet<IpAddr> = witness.finish().iter().map(|arrival| arrival.source).collect();
            assert_eq!(sources, [IpAddr::from(pod.address())].into(), "what {} got", outside.name());

            let mut outbound = Connection::open(&pod, far.address())?;
            assert_eq!(outbound.reached().source_seen.ip(), vm.address());
            assert_eq!(probe::udp(&pod, far.address())?.source_seen.ip(), vm.address());
            inbound.round_trip(b"inbound")?;
            outbound.round_trip(b"outbound")?;
        }
        assert_eq!(vm.dropped()?, [].into());
        drop(inside);
        pod.del()?;
        vm.expect_clean()?;
    }
    Ok(())
}

/// The platform's router as a load balancer.
struct Prober<'net>(&'net Namespace);

impl Station for Prober<'_> {
    fn name(&self) -> &str {
        "prober"
    }

    fn address(&self) -> Ipv4Addr {
        Ipv4Addr::UNSPECIFIED
    }

    fn namespace(&self) -> &Namespace {
        self.0
    }
}

#[test]
fn load_balancers_probe_by_ipv6_is_answered_on_the_link_that_it_came_from() -> Result<()> {
    for snat in [false, true] {
        let net = Fabric::builder().dual_stack().agent_toml(&format!("snat.ipv6 = {snat}")).start()?;
        let vm = net.vm(0);
        let pod = vm.add_pod("a")?;
        let echo = EchoServer::start_on(&pod, (pod.ip(V6), ECHO_PORT))?;
        let prober = Prober(net.router());
        // The prober has its address on every link, so the link is named.
        let links = query(net.router(), &format!("link show dev {}", vm.name()))?;
        let link = links[0]["ifindex"].as_u64().expect("a number") as u32;
        let source = SocketAddrV6::new(GATEWAY6, 0, 0, link);
        for _ in 0..3 {
            let mut probe = Connection::open_from(&prober, source, echo.address())?;
            assert_eq!(probe.reached().source_seen.ip(), IpAddr::from(GATEWAY6), "snat {snat}");
            probe.round_trip(b"healthy?")?;
            assert_eq!(probe::udp_from(&prober, source, echo.address())?.source_seen.ip(), IpAddr::from(GATEWAY6));
        }
        assert_eq!(vm.dropped()?, [].into());
        drop(echo);
        pod.del()?;
        vm.expect_clean()?;
    }
    Ok(())
}

#[test]
fn refusal_of_an_inbound_connection_keeps_the_pods_source() -> Result<()> {
    let net = Fabric::builder().agent_toml("routing.service_prefixes = []").start()?;
    let vm = net.vm(0);
    let pod = vm.add_pod("a")?;
    let nobody = SocketAddrV4::new(pod.address(), ECHO_PORT);
    for outside in [net.peer(), net.platform()] {
        let refused = probe::tcp(outside, nobody).expect_err("nobody listens");
        assert!(refused.to_string().contains("refused"), "{refused}");
    }
    pod.del()?;
    vm.expect_clean()
}

#[test]
fn next_pod_with_an_address_receives_nothing_of_the_last_ones_flows() -> Result<()> {
    let net = Fabric::builder().pool(1).agent_toml("pool.cooldown_secs = 0").start()?;
    let vm = net.vm(0);
    let first = vm.add_pod("first")?;
    let far = SocketAddrV4::new(net.internet().address(), 9000);
    let far = net.internet().namespace().run(|| UdpSocket::bind(far)).expect("the port is free");
    far.set_read_timeout(Some(PATIENCE)).expect("a socket has one");
    let near = first.namespace().run(|| UdpSocket::bind("0.0.0.0:7000")).expect("the port is free");
    near.send_to(b"hello", far.local_addr().expect("bound")).expect("a pod may send");
    let (_, translated) = far.recv_from(&mut [0; 16]).expect("it arrives");
    assert_eq!(translated.ip(), IpAddr::V4(vm.address()));
    first.del()?;
    vm.expect_clean()?;

    let next = vm.add_pod("next")?;
    assert_eq!(next.address(), first.address());
    let witness = Arrivals::watch(&next)?;
    far.send_to(b"late", translated).expect("the far end may send");
    thread::sleep(SETTLED);
    assert_eq!(witness.finish(), []);
    next.del()?;
    vm.expect_clean()
}

/// A client that is cut off while a pod sends to it, by a kernel's own TCP at both ends.
#[test]
fn flow_to_an_end_that_is_cut_off_lasts_for_minutes_and_gets_its_day_back() -> Result<()> {
    let net = Fabric::builder().dual_stack().start()?;
    let (vm, peer) = (net.vm(0), net.peer());
    let pod = vm.add_pod("a")?;
    for version in [V4, V6] {
        let server = pod.namespace().run(|| TcpListener::bind((pod.ip(version), 9000))).expect("the port is free");
        let at = server.local_addr().expect("it is bound");
        let client = peer.namespace().run(|| TcpStream::connect(at)).expect("the pod listens");
        client.set_read_timeout(Some(PATIENCE)).expect("a socket has one");
        let (mut sending, _) = server.accept().expect("the client has connected");
        let ends = AtomicBool::new(false);
        thread::scope(|scope| -> Result<()> {
            scope.spawn(|| {
                while !ends.load(Ordering::Relaxed) && sending.write_all(b"more").is_ok() {
                    thread::sleep(SETTLED);
                }
            });
            let tried = || -> Result<()> {
                (&client).read_exact(&mut [0; 8]).expect("the pod sends");
                let day = |secs: &u64| *secs > 80_000;
                assert!(vm.assured_flow_secs(version)?.iter().all(day), "{version:?}");
                nft(
                    peer.namespace(),
                    "table inet cut {\n chain i { type filter hook input priority 0; policy drop; }\n\
                     chain o { type filter hook output priority 0; policy drop; }\n}\n",
                )?;
                await_secs(vm, version, |secs| secs <= 300)?;
                nft(peer.namespace(), "delete table inet cut\n")?;
                await_secs(vm, version, |secs| secs > 80_000)
            };
            let result = tried();
            ends.store(true, Ordering::Relaxed);
            result
        })?;
    }
    Ok(())
}

/// Until the one assured flow there is lasts as long as it should. TCP repeats itself after a few seconds at most here.
fn await_secs(vm: &Vm, version: IpVersion, wanted: impl Fn(u64) -> bool) -> Result<()> {
    for _ in 0..150 {
        if let [secs] = vm.assured_flow_secs(version)?[..]
            && wanted(secs)
        {
            return Ok(());
        }
        thread::sleep(SETTLED);
    }
    panic!("{version:?}: {:?} s", vm.assured_flow_secs(version)?);
}
