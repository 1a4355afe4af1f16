//! As many flows as there are ports, and floods of flows that are never answered. Established flows stay, flows that do not
//! fit are refused and reported, and space becomes free again by itself.

use std::{
    net::{Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use azure_cni_tests::{
    Fabric, FabricBuilder, Pod, Result, Station, Vm, configure,
    probe::{self, Crowd, EchoServer},
};
use serde_json::Value;

/// With the service prefixes unknown and known: translated after the host's stack, and before it.
fn both_ways() -> [FabricBuilder; 2] {
    [Fabric::builder(), Fabric::builder().agent_toml("routing.service_prefixes = []")]
}

/// 65,000 ports, which is nearly all that there are: the rest is what the host keeps.
const PORTS: RangeInclusive<u16> = 536..=65_535;
const FLOWS: usize = 65_000;
/// The timeout of an assured flow: longer than it takes to open all, and short enough to wait for.
const REMEMBERED: Duration = Duration::from_secs(40);

#[test]
fn pod_has_65_000_flows_to_each_of_two_destinations_then_one_is_refused_then_there_is_room_again() -> Result<()> {
    let net = Fabric::builder()
        .without_agents()
        .agent_toml("snat.port_range = '536-65535'\nsnat.node_ports = '300-399'\nsnat.pod_port_share = 100\nrouting.service_prefixes = []")
        .agent_toml(&format!(
            "datapath.max_half_open = 262144\ntimeouts.datagram_one_way_secs = {0}\ntimeouts.datagram_exchange_secs = {0}\n\
             timeouts.datagram_question_secs = {0}",
            REMEMBERED.as_secs()
        ))
        .start()?;
    let vm = net.vm(0);
    // The host's own ports go below the range, where only the privileged ones are.
    vm.namespace().sysctl("net/ipv4/ip_unprivileged_port_start", "0")?;
    vm.namespace().sysctl("net/ipv4/ip_local_port_range", "400 535")?;
    vm.start_agent()?;
    let (pod, other) = (vm.add_pod("a")?, vm.add_pod("b")?);
    let first = EchoServer::start(net.internet())?;
    let second = EchoServer::start_on(net.platform(), (net.platform().address(), 53))?;

    let begin = Instant::now();
    for destination in [first.address(), second.address()] {
        let reached = probe::udp_from_each(&pod, PORTS, destination)?;
        assert_eq!(reached.len(), FLOWS);
        let kept = |reached: &&probe::Reached| {
            reached.source_seen == SocketAddr::from((vm.address(), reached.source_used.port()))
        };
        let moved = reached.iter().find(|reached| !kept(reached));
        assert_eq!(moved, None, "each port was free, so each is kept");
    }
    assert_eq!(vm.dropped()?, [].into());
    for destination in [first.address(), second.address()] {
        let refused = probe::udp(&other, destination).expect_err("there is no port left");
        assert!(refused.is_silence(), "{refused}");
    }
    assert!(begin.elapsed() < REMEMBERED, "too slow: the first flows may be forgotten ({:?})", begin.elapsed());
    let dropped = vm.dropped()?;
    assert_eq!(dropped.keys().collect::<Vec<_>>(), ["nat_ports_exhausted"], "{dropped:?}");
    assert_event_names(vm, &other, first.address())?;
    assert_event_names(vm, &other, second.address())?;
    // Live flows have lost nothing, and another protocol has ports of its own.
    probe::udp_from_each(&pod, [536, 30_000, 65_535], first.address())?;
    assert_eq!(probe::tcp(&other, first.address())?.source_seen.ip(), vm.address());

    let deadline = Instant::now() + REMEMBERED + Duration::from_secs(30);
    for destination in [first.address(), second.address()] {
        while let Err(refused) = probe::udp(&other, destination) {
            assert!(Instant::now() < deadline, "still refused: {refused}");
            thread::sleep(Duration::from_secs(1));
        }
    }
    [pod, other].iter().try_for_each(Pod::del)?;
    vm.expect_clean()
}

#[test]
fn process_that_asks_from_30_000_ports_leaves_other_pods_their_names() -> Result<()> {
    let net = Fabric::builder().agent_toml("timeouts.datagram_question_secs = 60").start()?;
    let vm = net.vm(0);
    let (greedy, other) = (vm.add_pod("a")?, vm.add_pod("b")?);
    let dns = EchoServer::start_on(net.platform(), (net.platform().address(), 53))?;
    probe::udp_send_from_each(&greedy, 32_768..=62_767, dns.address())?;

    probe::udp_from_each(&other, 40_000..40_200, dns.address())?;
    let one_more = (Ipv4Addr::UNSPECIFIED, 63_000);
    let refused = probe::udp_from(&greedy, one_more, dns.address()).expect_err("it holds all its ports");
    assert!(refused.is_silence(), "{refused}");
    assert_eq!(vm.dropped()?.into_keys().collect::<Vec<_>>(), ["nat_ports_exhausted"]);
    assert_event_names(vm, &greedy, dns.address())?;
    [greedy, other].iter().try_for_each(Pod::del)?;
    vm.expect_clean()
}

/// The operator's command shows which pod's flow to which destination was refused.
fn assert_event_names(vm: &Vm, pod: &Pod, destination: SocketAddr) -> Result<()> {
    let answer = vm.ctl(&["events", "--json"])?;
    let events: Value = serde_json::from_str(&answer).expect("JSON");
    let names = |event: &&Value| {
        event["source"] == pod.address().to_string()
            && event["destination"] == destination.ip().to_string()
            && event["reason"] == "nat_ports_exhausted"
            && event["pod"].to_string().contains(pod.container_id())
    };
    let found = events.as_array().expect("a list").iter().find(names);
    assert!(found.is_some(), "no event names {} and {destination}: {answer}", pod.container_id());
    Ok(())
}

/// The size of the table of half-open flows, and a flood ten times as large.
const HALF_OPEN: usize = 4096;
const FLOOD: usize = 10 * HALF_OPEN;
const PER_SECOND: u32 = 20_000;
/// Established connections: half of them opened by a pod and translated, half opened from outside.
const ESTABLISHED: usize = 1_000;

#[test]
fn floods_from_both_sides_end_no_established_connection() -> Result<()> {
    for builder in both_ways() {
        let net = builder.agent_toml(&format!("datapath.max_half_open = {HALF_OPEN}")).start()?;
        let vm = net.vm(0);
        let pods = [vm.add_pod("a")?, vm.add_pod("b")?];
        let [client, server] = &pods;
        let internet = net.internet();
        let route = format!("route add {} via 198.51.100.1", server.address());
        configure(internet.namespace(), &route)?;
        let open_port = EchoServer::start(server)?;
        let mut crowds = [
            Crowd::open(client, internet, internet.address(), ESTABLISHED / 2)?,
            Crowd::open(internet, server, server.address(), ESTABLISHED / 2)?,
        ];
        crowds.iter_mut().try_for_each(Crowd::exchange)?;

        // No host has these sources (RFC 5737, TEST-NET-3), so the replies go nowhere.
        let spoofed = (1..=160).flat_map(|host| (1024..1280).map(move |port| ([203, 0, 113, host], port).into()));
        let spoofed: Vec<SocketAddr> = spoofed.collect();
        let many_ports: Vec<SocketAddr> = (1024..).take(FLOOD).map(|port| (client.address(), port).into()).collect();
        assert_eq!((spoofed.len(), many_ports.len()), (FLOOD, FLOOD));
        let silent_address = ([203, 0, 113, 200], 80).into();
        let flooding = AtomicBool::new(true);
        thread::scope(|scope| -> Result<()> {
            let traffic = scope.spawn(|| -> Result<u32> {
                let mut rounds = 0;
                while flooding.load(Ordering::Relaxed) {
                    crowds.iter_mut().try_for_each(Crowd::exchange)?;
                    rounds += 1;
                }
                Ok(rounds)
            });
            let inward = scope.spawn(|| probe::syn_flood(internet, spoofed, open_port.address(), PER_SECOND));
            let outward = scope.spawn(|| probe::syn_flood(client, many_ports, silent_address, PER_SECOND));
            let floods = [inward, outward].map(|flood| flood.join().expect("does not panic"));
            flooding.store(false, Ordering::Relaxed);
            assert!(traffic.join().expect("does not panic")? > 0, "no round of traffic met the flood");
            floods.into_iter().collect()
        })?;

        crowds.iter_mut().try_for_each(Crowd::exchange)?;
        // The flood does not harm later connections either.
        let far = EchoServer::start(internet)?;
        assert_eq!(probe::tcp(client, far.address())?.source_seen.ip(), vm.address());
        assert_eq!(probe::tcp(internet, open_port.address())?.source_seen.ip(), internet.address());
        drop((crowds, open_port, far));
        pods.iter().try_for_each(Pod::del)?;
        vm.expect_clean()?;
    }
    Ok(())
}

#[test]
fn flood_of_unanswered_datagrams_ends_no_answered_flow() -> Result<()> {
    for builder in both_ways() {
        let net = builder.agent_toml(&format!("datapath.max_half_open = {HALF_OPEN}")).start()?;
        let vm = net.vm(0);
        let pod = vm.add_pod("a")?;
        let echo = EchoServer::start(net.internet())?;
        let answered = probe::udp_from_each(&pod, 5_000..5_500, echo.address())?;

        let silent = SocketAddr::from(([203, 0, 113, 200], 80));
        let raw = probe::RawSender::open(&pod, silent.ip())?;
        for number in 0..FLOOD {
            let source = (pod.address(), 1024 + number as u16).into();
            let datagram = probe::fragments(source, silent, b"nobody answers", 1500, 1);
            datagram.iter().try_for_each(|packet| raw.send(packet))?;
        }
        let again = probe::udp_from_each(&pod, 5_000..5_500, echo.address())?;
        assert_eq!(again, answered, "a flow was forgotten and came back with another port");
        pod.del()?;
        vm.expect_clean()?;
    }
    Ok(())
}
