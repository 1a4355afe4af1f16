//! The NIC changes under a running agent: its MTU, its addresses, its programs, and whether it is there at all. What the programs know
//! from their load on changes by a start within the process, which takes nothing from pods.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
};

use azure_cni_tests::{
    CniCall, CniError, Fabric, FabricBuilder, GATEWAY6,
    IpVersion::{V4, V6},
    Namespace, Pod, Result, Station, Vm, configure,
    probe::{self, Connection, ECHO_PORT, EchoServer},
    query,
};
use serde_json::{Value, json};

/// The CNI specification, section "Error".
const TRY_AGAIN: u32 = 11;
const LIMITED: u32 = 51;
const BULK: usize = 300_000;
const QUICK: &str = "snat.ipv6 = true\npool.refresh_min_secs = 1\npool.refresh_max_secs = 1\npool.cooldown_secs = 0\nreconcile.interval_secs = 1";

/// Translated after the host's stack, and before it.
fn both_ways() -> [FabricBuilder; 2] {
    let quick = || Fabric::builder().dual_stack().agent_toml(QUICK);
    [quick(), quick().agent_toml("routing.service_prefixes = []")]
}

fn started_again(times: u64) -> impl Fn(&Value) -> bool {
    move |status| status["repairs"]["agent-started-again"] == times && status["problems"] == json!([])
}

fn is_well(status: &Value) -> bool {
    status["problems"] == json!([])
}

fn status(vm: &Vm) -> Result<()> {
    let call = CniCall::new("STATUS")?.netconf(&vm.netconf());
    let output = vm.cni(&call)?;
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    Ok(())
}

/// STATUS fails and an ADD is to be tried again, both with this word.
fn assert_cut_off(vm: &Vm, word: &str) -> Result<CniError> {
    vm.await_status(word, |status| status["problems"].to_string().contains(word))?;
    let error = vm.cni(&CniCall::new("STATUS")?.netconf(&vm.netconf()))?.error()?;
    assert_eq!(error.code, LIMITED, "{error}");
    assert!(error.msg.contains(word), "{error}");
    let namespace = Namespace::create("refused")?;
    let add = CniCall::new("ADD")?.attachment("refused", namespace.path(), "eth0").netconf(&vm.netconf());
    let refused = vm.cni(&add)?.error()?;
    assert_eq!(refused.code, TRY_AGAIN, "{refused}");
    assert!(refused.msg.contains(word), "{refused}");
    Ok(error)
}

/// What of the Internet a pod sees, by both versions.
fn assert_reaches_internet(pod: &Pod, servers: &[EchoServer; 2], as_address: [IpAddr; 2]) -> Result<()> {
    for (server, seen) in servers.iter().zip(as_address) {
        assert_eq!(probe::tcp(pod, server.address())?.source_seen.ip(), seen);
        assert_eq!(probe::udp(pod, server.address())?.source_seen.ip(), seen);
    }
    Ok(())
}

fn servers(station: &dyn Station) -> Result<[EchoServer; 2]> {
    let on = |version| EchoServer::start_on(station, (station.ip(version), ECHO_PORT));
    Ok([on(V4)?, on(V6)?])
}

fn primaries(vm: &Vm) -> [IpAddr; 2] {
    [vm.ip(V4), vm.ip(V6)]
}

fn path_mtu(pod: &Pod, to: IpAddr) -> Result<Option<u64>> {
    Ok(query(pod.namespace(), &format!("route get {to}"))?[0]["metrics"][0]["mtu"].as_u64())
}

fn mtu(pod: &Pod) -> Result<Value> {
    Ok(query(pod.namespace(), "link show eth0")?[0]["mtu"].clone())
}

#[test]
fn pods_learn_of_a_narrower_uplink_and_new_ones_are_made_for_it() -> Result<()> {
    const NARROW: u64 = 1400;
    for builder in both_ways() {
        let net = builder.start()?;
        let vm = net.vm(0);
        let old = vm.add_pod("old")?;
        let internet = servers(net.internet())?;
        // Without a route to it, the Internet's host would take the router's errors for forged (rp_filter).
        configure(net.internet().namespace(), "route add 10.240.0.1 via 198.51.100.1")?;
        let mut open =
            internet.iter().map(|server| Connection::open(&old, server.address())).collect::<Result<Vec<_>>>()?;

        configure(vm.namespace(), &format!("link set eth0 mtu {NARROW}"))?;
        configure(net.router(), &format!("link set {} mtu {NARROW}", vm.name()))?;
        vm.await_status("started again", started_again(1))?;
        open.iter_mut().try_for_each(|connection| connection.round_trip(&vec![0x5a; BULK]).map(drop))?;
        for version in [V4, V6] {
            let to = net.internet().ip(version);
            assert_eq!(path_mtu(&old, to)?, Some(NARROW), "to {to}");
            // Too long, and not to be fragmented.
            let peer = net.peer().ip(version);
            let socket = old.namespace().run(|| UdpSocket::bind((old.ip(version), 0))).expect("its own address");
            socket.send_to(&[0; 1420], (peer, 9)).expect("the pod's interface takes it");
            let deadline = std::time::Instant::now() + probe::PATIENCE;
            while path_mtu(&old, peer)? != Some(NARROW) {
                assert!(std::time::Instant::now() < deadline, "no ICMP about a packet to {peer}");
            }
        }
        let new = vm.add_pod("new")?;
        assert_eq!((mtu(&old)?, mtu(&new)?), (1500.into(), NARROW.into()));
        assert_reaches_internet(&new, &internet, primaries(vm))?;

        configure(vm.namespace(), "link set eth0 mtu 1500")?;
        configure(net.router(), &format!("link set {} mtu 1500", vm.name()))?;
        vm.await_status("started again", started_again(2))?;
        let wide = vm.add_pod("wide")?;
        assert_eq!(mtu(&wide)?, 1500);
        open.iter_mut().try_for_each(|connection| connection.round_trip(&vec![0x5a; BULK]).map(drop))?;
        assert_eq!(vm.dropped()?, [].into());
        [old, new, wide].iter().try_for_each(Pod::del)?;
        vm.expect_clean()?;
    }
    Ok(())
}

#[test]
fn uplink_too_narrow_for_ipv6_is_a_problem_and_no_reason_to_end() -> Result<()> {
    let net = Fabric::builder().dual_stack().agent_toml(QUICK).start()?;
    let vm = net.vm(0);
    let pod = vm.add_pod("a")?;
    configure(vm.namespace(), "link set eth0 mtu 1200")?;
    assert_cut_off(vm, "cannot start again")?;
    assert_eq!(vm.status()?["repairs"]["agent-started-again"], Value::Null, "it goes on");
    pod.del()
}

/// The next primary addresses of the VM.
const NEXT: Ipv4Addr = Ipv4Addr::new(10, 240, 0, 99);
const NEXT6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0x240, 0, 0, 0, 0, 0x99);

/// The NIC gets other primary addresses, and the platform delivers them.
fn renumber(net: &Fabric) -> Result<()> {
    let vm = net.vm(0);
    let mac = query(vm.namespace(), "link show eth0")?[0]["address"].as_str().unwrap_or_default().to_owned();
    let name = vm.name();
    let mut to_vm = String::new();
    for address in [NEXT.to_string(), NEXT6.to_string()] {
        to_vm +=
            &format!("route add {address} dev {name}\nneigh replace {address} lladdr {mac} dev {name} nud permanent\n");
    }
    configure(net.router(), &to_vm)?;
    configure(
        net.internet().namespace(),
        &format!("route add {NEXT} via 198.51.100.1\nroute add {NEXT6} via {GATEWAY6} dev eth0\n"),
    )?;
    let [old, old6] = primaries(vm);
    configure(
        vm.namespace(),
        &format!(
            "addr del {old}/16 dev eth0\naddr del {old6}/128 dev eth0\naddr add {NEXT}/16 dev eth0\n\
             addr add {NEXT6}/128 dev eth0 nodad\nroute replace default via 10.240.0.1 dev eth0\n"
        ),
    )
}

fn list_next(vm: &Vm) {
    let quoted = |address: IpAddr| format!("\"{address}\"");
    let mut listing = vm.listing().xml();
    for (old, new) in primaries(vm).into_iter().zip([NEXT.into(), NEXT6.into()]) {
        assert!(listing.contains(&quoted(old)), "{listing}");
        listing = listing.replace(&quoted(old), &quoted(new));
    }
    fs::write(vm.dir().join("pool.xml"), listing).expect("the fabric wrote one");
}

fn assert_renumbered(net: &Fabric, old: Pod) -> Result<()> {
    let vm = net.vm(0);
    vm.await_status("started again", started_again(1))?;
    status(vm)?;
    let internet = servers(net.internet())?;
    let new = vm.add_pod("new")?;
    for pod in [&old, &new] {
        assert_reaches_internet(pod, &internet, [NEXT.into(), NEXT6.into()])?;
        pod.check()?;
    }
    [old, new].iter().try_for_each(Pod::del)
}

#[test]
fn primary_address_replaced_before_the_source_lists_it_is_a_problem_until_it_does() -> Result<()> {
    for builder in both_ways() {
        let net = builder.start()?;
        let vm = net.vm(0);
        let pod = vm.add_pod("a")?;
        renumber(&net)?;
        let error = assert_cut_off(vm, "primary address")?;
        for word in [vm.address().to_string(), NEXT.to_string()] {
            assert!(error.msg.contains(&word), "{word}: {error}");
        }
        list_next(vm);
        assert_renumbered(&net, pod)?;
    }
    Ok(())
}

#[test]
fn primary_address_listed_before_the_uplink_has_it_is_used_once_it_does() -> Result<()> {
    for builder in both_ways() {
        let net = builder.start()?;
        let vm = net.vm(0);
        let pod = vm.add_pod("a")?;
        list_next(vm);
        vm.await_status("named", |status| status["problems"].to_string().contains(&NEXT.to_string()))?;
        status(vm)?;
        assert_reaches_internet(&pod, &servers(net.internet())?, primaries(vm))?;
        renumber(&net)?;
        assert_renumbered(&net, pod)?;
    }
    Ok(())
}

#[test]
fn nic_that_is_gone_is_a_problem_and_is_taken_when_it_is_back() -> Result<()> {
    for (attach, keeps_index) in [("auto", true), ("auto", false), ("clsact", true), ("clsact", false)] {
        let overlay = format!("datapath.attach = '{attach}'");
        let net = Fabric::builder().dual_stack().agent_toml(QUICK).agent_toml(&overlay).start()?;
        let vm = net.vm(0);
        let pods = [vm.add_pod("a")?, vm.add_pod("b")?];
        let (internet, neighbour) = (servers(net.internet())?, servers(&pods[1])?);
        let index = query(vm.namespace(), "link show eth0")?[0]["ifindex"].clone();

        let elsewhere = Namespace::create("elsewhere")?;
        configure(vm.namespace(), &format!("link set eth0 netns {}", elsewhere.name()))?;
        assert_cut_off(vm, "eth0 is gone")?;
        // What does not need the NIC goes on.
        for server in &neighbour {
            probe::tcp(&pods[0], server.address())?;
        }
        if !keeps_index {
            configure(vm.namespace(), &format!("link add filler index {index} type veth peer name filled"))?;
        }
        configure(&elsewhere, &format!("link set eth0 netns {}", vm.name()))?;
        for key in ["accept_dad", "accept_ra"] {
            vm.namespace().sysctl(&format!("net/ipv6/conf/eth0/{key}"), "0")?;
        }
        let [address, address6] = primaries(vm);
        configure(
            vm.namespace(),
            &format!(
                "link set eth0 up\naddr add {address}/16 dev eth0\naddr add {address6}/128 dev eth0 nodad\n\
                 route add default via 10.240.0.1 dev eth0\nroute add default via {GATEWAY6} dev eth0\n"
            ),
        )?;
        vm.await_status("well again", is_well)?;
        status(vm)?;
        let new = vm.add_pod("c")?;
        for pod in [&pods[0], &pods[1], &new] {
            assert_reaches_internet(pod, &internet, primaries(vm))?;
        }
        let repairs = vm.status()?["repairs"].clone();
        // Links move with their interface; queueing disciplines do not.
        let action = match (keeps_index, attach) {
            (false, _) => Some("agent-started-again"),
            (true, "clsact") => Some("uplink-program-repaired"),
            (true, _) => None,
        };
        assert!(action.is_none_or(|action| repairs[action].as_u64() >= Some(1)), "{attach} {keeps_index}: {repairs}");
        new.del()?;
        pods.iter().try_for_each(Pod::del)?;
    }
    Ok(())
}

fn tc(vm: &Vm, arguments: &str) -> Result<()> {
    let output = vm.namespace().command("tc")?.args(arguments.split(' ')).output().expect("tc is part of iproute2");
    assert!(output.status.success(), "tc {arguments}: {output:?}");
    Ok(())
}

type Damage = fn(&Vm) -> Result<()>;

fn unpin(vm: &Vm, hook: &str) -> Result<()> {
    fs::remove_file(vm.pins("links").join(format!("eth0-{hook}"))).expect("the agent pinned it");
    Ok(())
}

const DAMAGES: &[(&str, Damage, u64)] = &[
    ("tcx", |vm| unpin(vm, "from_wire"), 1),
    ("tcx", |vm| unpin(vm, "to_wire"), 1),
    ("tcx", |vm| ["from_wire", "to_wire"].iter().try_for_each(|hook| unpin(vm, hook)), 2),
    ("clsact", |vm| tc(vm, "filter del dev eth0 ingress"), 1),
    ("clsact", |vm| tc(vm, "filter del dev eth0 egress"), 1),
    ("clsact", |vm| tc(vm, "qdisc del dev eth0 clsact"), 2),
];

#[test]
fn program_that_was_removed_from_the_uplink_is_put_back_and_counted() -> Result<()> {
    for attach in ["tcx", "clsact"] {
        let overlay = format!("datapath.attach = '{attach}'");
        let net = Fabric::builder().dual_stack().agent_toml(QUICK).agent_toml(&overlay).start()?;
        let vm = net.vm(0);
        let pod = vm.add_pod("a")?;
        let internet = servers(net.internet())?;
        let mut expected = 0;
        for (number, (_, damage, removed)) in DAMAGES.iter().filter(|(of, ..)| *of == attach).enumerate() {
            damage(vm)?;
            expected += removed;
            let counted = |status: &Value| status["repairs"]["uplink-program-repaired"] == expected && is_well(status);
            vm.await_status(&format!("{attach}, damage {number}: put back"), counted)?;
            assert_reaches_internet(&pod, &internet, primaries(vm))?;
            status(vm)?;
        }
        pod.del()?;
        vm.expect_clean()?;
    }
    Ok(())
}

#[test]
fn calls_go_on_while_the_agent_starts_again() -> Result<()> {
    let net = Fabric::builder().dual_stack().agent_toml(QUICK).start()?;
    let vm = net.vm(0);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let calls = scope.spawn(|| -> Result<u32> {
            let mut rounds = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                status(vm)?;
                vm.add_pod("a")?.del()?;
                rounds += 1;
            }
            Ok(rounds)
        });
        for (number, mtu) in [1400, 1500, 1450].into_iter().enumerate() {
            configure(vm.namespace(), &format!("link set eth0 mtu {mtu}"))?;
            let times = number as u64 + 1;
            vm.await_status("started again", |status| status["repairs"]["agent-started-again"] == times)?;
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let rounds = calls.join().expect("it does not panic")?;
        assert!(rounds > 3, "{rounds} rounds");
        Ok::<_, azure_cni_tests::Error>(())
    })?;
    // A DEL that met no agent waits in the spool.
    vm.await_status("clean", |_| vm.expect_clean().is_ok())?;
    Ok(())
}
