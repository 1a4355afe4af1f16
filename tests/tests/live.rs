//! Changes to a pod's egress while the agent runs, and the choices of a network or an address. They apply to new flows; open
//! flows stay as they were.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use azure_cni_tests::{
    Fabric, FabricBuilder, PEERED_PREFIX, Pod, Result, Station, VNET_PREFIX, Vm, configure,
    probe::{self, Arrivals, Connection, EchoServer},
};
use serde_json::json;

/// The platform's instance metadata service.
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// The prefix of the fabric's Internet host.
const INTERNET_PREFIX: &str = "198.51.100.0/24";
/// A little longer than a round of the agent's background tasks.
const ROUND: Duration = Duration::from_secs(20);

/// With the service prefixes unknown and known: decided after the host's stack, and before it.
fn both_ways() -> [FabricBuilder; 2] {
    [Fabric::builder(), Fabric::builder().agent_toml("routing.service_prefixes = []")]
}

fn vnet_prefixes(more: &str) -> String {
    format!("routing.vnet_prefixes = ['{VNET_PREFIX}', '{PEERED_PREFIX}'{more}]")
}

/// A host of the Internet that has a route to all pods, whether or not their addresses are public.
fn internet(net: &Fabric) -> Result<EchoServer> {
    configure(net.internet().namespace(), &format!("route add {VNET_PREFIX} via 198.51.100.1"))?;
    EchoServer::start(net.internet())
}

fn source_of(pod: &Pod, echo: &EchoServer) -> Result<IpAddr> {
    let by_udp = probe::udp(pod, echo.address())?.source_seen.ip();
    assert_eq!(probe::tcp(pod, echo.address())?.source_seen.ip(), by_udp);
    Ok(by_udp)
}

#[test]
fn prefix_added_by_sighup_is_untranslated_for_new_flows_while_an_open_one_goes_on() -> Result<()> {
    for builder in both_ways() {
        let net = builder.start()?;
        let vm = net.vm(0);
        let pod = vm.add_pod("a")?;
        let echo = internet(&net)?;
        let mut open = Connection::open(&pod, echo.address())?;
        assert_eq!(open.reached().source_seen.ip(), vm.address());

        vm.overlay_agent_toml(&vnet_prefixes(&format!(", '{INTERNET_PREFIX}'")))?;
        vm.reload_agent()?;
        // Before any new flow, because its last packets would be recorded too.
        let witness = Arrivals::watch(net.internet())?;
        open.round_trip(b"as before")?;
        let arrived = witness.finish();
        assert!(!arrived.is_empty() && arrived.iter().all(|packet| packet.source == vm.address()), "{arrived:?}");
        assert_eq!(source_of(&pod, &echo)?, pod.address());
        open.round_trip(b"still as before")?;

        vm.overlay_agent_toml(&vnet_prefixes(""))?;
        vm.reload_agent()?;
        assert_eq!(source_of(&pod, &echo)?, vm.address());
        open.round_trip(b"as ever")?;
        assert_eq!(vm.dropped()?, [].into());
        drop(open);
        pod.del()?;
        vm.expect_clean()?;
    }
    Ok(())
}

#[test]
fn file_that_is_not_understood_changes_nothing_and_other_keys_wait_for_the_next_start() -> Result<()> {
    let net = Fabric::builder().start()?;
    let vm = net.vm(0);
    let pod = vm.add_pod("a")?;
    let echo = internet(&net)?;
    vm.overlay_agent_toml(&vnet_prefixes(&format!(", '{INTERNET_PREFIX}'")))?;
    vm.reload_agent()?;
    let good = fs::read_to_string(vm.dir().join("agent.toml")).expect("it was just written");

    fs::write(vm.dir().join("agent.toml"), "[routing]\nvnet_prefix = []").expect("the directory is ours");
    vm.reload_agent()?;
    assert!(vm.agent_log().contains("line 2, column 1: unknown field `vnet_prefix`"), "{}", vm.agent_log());
    assert_eq!(source_of(&pod, &echo)?, pod.address());

    fs::write(vm.dir().join("agent.toml"), good).expect("the directory is ours");
    vm.overlay_agent_toml("snat.port_range = '2000-2999'\nrouting.service_prefixes = []")?;
    vm.overlay_agent_toml(&vnet_prefixes(""))?;
    vm.reload_agent()?;
    let log = vm.agent_log();
    assert!(log.contains("takes effect at the next start"), "{log}");
    assert!(log.contains("snat.port_range, routing.service_prefixes"), "{log}");
    assert_eq!(source_of(&pod, &echo)?, vm.address());
    vm.restart_agent()?;
    let seen = probe::tcp(&pod, echo.address())?.source_seen;
    assert!(seen.ip() == vm.address() && (2000..=2999).contains(&seen.port()), "{seen}");
    pod.del()?;
    vm.expect_clean()
}

#[test]
fn change_in_the_directory_of_the_ip_masq_agent_is_picked_up() -> Result<()> {
    let net = Fabric::builder().without_agents().start()?;
    let vm = net.vm(0);
    let dir = vm.dir().join("masq");
    fs::create_dir(&dir).expect("the directory is ours");
    vm.overlay_agent_toml(&format!("routing.masq_dir = '{}'", dir.display()))?;
    vm.start_agent()?;
    let pod = vm.add_pod("a")?;
    let echo = internet(&net)?;
    assert_eq!(source_of(&pod, &echo)?, vm.address());

    let write = |text: &str| fs::write(dir.join("ip-masq-agent"), text).expect("the directory is ours");
    write(&format!("nonMasqueradeCIDRs:\n- {INTERNET_PREFIX}\n"));
    vm.await_log("the change", ROUND, |log| log.contains("routing.masq_dir has changed"))?;
    assert_eq!(source_of(&pod, &echo)?, pod.address());

    // An invalid file is reported by name, and what was in force stays.
    write("nonMasqueradeCIDRs: [198.51.100.1/24]\n");
    vm.reload_agent()?;
    assert!(
        vm.agent_log().contains("ip-masq-agent: prefix \"198.51.100.1/24\" has host bits set"),
        "{}",
        vm.agent_log()
    );
    let problems = vm.status()?["problems"].to_string();
    assert!(problems.contains("ip-masq-agent"), "{problems}");
    assert_eq!(source_of(&pod, &echo)?, pod.address());
    vm.stop_agent()?;
    assert!(vm.refused_start(&[])?.contains("ip-masq-agent"));

    fs::remove_file(dir.join("ip-masq-agent")).expect("it was just written");
    vm.start_agent()?;
    assert_eq!(source_of(&pod, &echo)?, vm.address());
    pod.del()?;
    vm.expect_clean()
}

/// Makes the platform's host answer for the metadata service too.
fn serve_metadata(net: &Fabric) -> Result<EchoServer> {
    configure(net.platform().namespace(), &format!("addr add {METADATA}/32 dev lo"))?;
    configure(net.router(), &format!("route add {METADATA}/32 via {} dev platform", net.platform().address()))?;
    EchoServer::start_on(net.platform(), SocketAddrV4::new(METADATA, 80))
}

/// The Internet sees the pod's own address. The platform's services see the VM's: they answer no other.
fn assert_keeps_its_source(net: &Fabric, pod: &Pod, echo: &EchoServer, platform: &[&EchoServer]) -> Result<()> {
    assert_eq!(source_of(pod, echo)?, pod.address());
    platform.iter().try_for_each(|service| {
        assert_eq!(source_of(pod, service)?, net.vm(0).address());
        Ok(())
    })
}

#[test]
fn network_that_opts_out_keeps_its_pods_source_also_after_a_restart() -> Result<()> {
    for builder in both_ways() {
        let net = builder.start()?;
        let vm = net.vm(0);
        let metadata = serve_metadata(&net)?;
        let dns = EchoServer::start_on(net.platform(), SocketAddrV4::new(net.platform().address(), 53))?;
        let echo = internet(&net)?;
        let mut netconf = vm.netconf();
        netconf["snat"] = json!(false);
        let (kept, translated) = (vm.add_pod_with("kept", netconf)?, vm.add_pod("translated")?);
        for _ in 0..2 {
            assert_keeps_its_source(&net, &kept, &echo, &[&metadata, &dns])?;
            assert_eq!(source_of(&translated, &echo)?, vm.address());
            vm.restart_agent()?;
        }
        [kept, translated].iter().try_for_each(Pod::del)?;
        vm.expect_clean()?;
    }
    Ok(())
}

#[test]
fn pod_with_a_public_address_keeps_its_source_from_the_moment_it_is_configured() -> Result<()> {
    for builder in both_ways() {
        let net = builder.start()?;
        let vm = net.vm(0);
        let metadata = serve_metadata(&net)?;
        let echo = internet(&net)?;
        let (public, private) = (vm.add_pod("public")?, vm.add_pod("private")?);
        let mut open = Connection::open(&public, echo.address())?;
        vm.overlay_agent_toml(&format!("routing.public_addresses = ['{}']", public.address()))?;
        vm.reload_agent()?;
        assert_keeps_its_source(&net, &public, &echo, &[&metadata])?;
        assert_eq!(source_of(&private, &echo)?, vm.address());
        open.round_trip(b"translated as before")?;

        vm.overlay_agent_toml("routing.public_addresses = []")?;
        vm.reload_agent()?;
        assert_eq!(source_of(&public, &echo)?, vm.address());
        drop(open);
        [public, private].iter().try_for_each(Pod::del)?;
        vm.expect_clean()?;
    }
    Ok(())
}

#[test]
fn metadata_service_that_is_blocked_answers_the_vm_and_never_a_pod() -> Result<()> {
    for builder in both_ways() {
        let net = builder.agent_toml("routing.block_imds = true").start()?;
        let vm = net.vm(0);
        let metadata = serve_metadata(&net)?;
        let pod = vm.add_pod("a")?;
        let witness = Arrivals::watch(net.platform())?;
        let refused = probe::tcp(&pod, metadata.address()).expect_err("pods may not");
        assert!(refused.is_silence(), "{refused}");
        assert_eq!(witness.finish(), []);
        assert!(vm.drops()?["metadata_blocked"] > 0);
        // Other ports of that address are not the metadata service.
        assert_eq!(probe::udp(&pod, metadata.address())?.source_seen.ip(), vm.address());
        probe::tcp(vm, metadata.address())?;
        pod.del()?;
        vm.expect_clean()?;
    }
    Ok(())
}

/// The ports of the range that the pod gets for as many connections; the next connection is refused.
fn ports_given(vm: &Vm, pod: &Pod, echo: &EchoServer, count: usize) -> Result<Vec<u16>> {
    let open = (0..count).map(|_| Connection::open(pod, echo.address())).collect::<Result<Vec<_>>>()?;
    let refused = Connection::open(pod, echo.address()).err().expect("there is no port left");
    assert!(refused.is_silence(), "{refused}");
    assert!(vm.drops()?["nat_ports_exhausted"] > 0);
    let mut ports: Vec<u16> = open.iter().map(|connection| connection.reached().source_seen.port()).collect();
    ports.sort_unstable();
    Ok(ports)
}

#[test]
fn port_that_the_host_listens_on_is_never_given_to_a_pod() -> Result<()> {
    for builder in both_ways() {
        let net = builder.without_agents().agent_toml("snat.port_range = '2000-2003'").start()?;
        let vm = net.vm(0);
        let service = EchoServer::start_on(vm, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 2001))?;
        vm.start_agent()?;
        let pod = vm.add_pod("a")?;
        let echo = internet(&net)?;
        // The port that the pod uses would be kept if it were free.
        let wanted = probe::udp_from(&pod, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 2001), echo.address())?;
        assert_ne!(wanted.source_seen.port(), 2001);
        assert_eq!(ports_given(vm, &pod, &echo, 3)?, [2000, 2002, 2003]);
        // A later one is observed within a round.
        let dns = EchoServer::start_on(net.platform(), SocketAddrV4::new(net.platform().address(), 53))?;
        let later = EchoServer::start_on(vm, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 2003))?;
        vm.await_log("the new port", ROUND, |log| log.contains("2003/tcp"))?;
        assert_eq!(vm.status()?["reservedPorts"], 4);
        assert_eq!(ports_given(vm, &pod, &dns, 2)?, [2000, 2002]);
        drop((service, later));
        pod.del()?;
        vm.expect_clean()?;
    }
    Ok(())
}

#[test]
fn refused_flow_is_reported_with_its_pod_and_destination_and_logged_once() -> Result<()> {
    for builder in both_ways() {
        let net = builder.agent_toml("snat.port_range = '2000-2000'").start()?;
        let vm = net.vm(0);
        let (a, b) = (vm.add_pod("a")?, vm.add_pod("b")?);
        let echo = internet(&net)?;
        let open = Connection::open(&a, echo.address())?;
        assert_eq!(vm.events()?, [json!(null); 0]);
        for _ in 0..2 {
            assert!(probe::tcp(&b, echo.address()).expect_err("there is no port left").is_silence());
        }
        let events = vm.events()?;
        let [event] = &events[..] else { panic!("one pod, one destination, one reason: {events:?}") };
        assert_eq!(event["pod"]["containerId"], b.container_id());
        assert_eq!(event["destination"], echo.address().ip().to_string());
        assert_eq!((&event["destinationPort"], &event["protocol"]), (&json!(echo.address().port()), &json!(6)));
        assert_eq!(event["reason"], "nat_ports_exhausted");
        assert!(event["count"].as_u64() >= Some(2), "{event}");
        let shown = vm.ctl(&["events"])?;
        assert!(shown.contains(b.container_id()) && shown.contains("198.51.100.10:7"), "{shown}");
        assert_eq!(vm.agent_log().matches("refused a flow").count(), 1, "{}", vm.agent_log());
        drop(open);
        [a, b].iter().try_for_each(Pod::del)?;
        vm.expect_clean()?;
    }
    Ok(())
}
