//! Settings of the node change under a running agent: IPv6 is switched off, the FORWARD policy drops, MAC addresses change.

use azure_cni_tests::{
    CniCall, CniError, Fabric, GATEWAY6,
    IpVersion::{V4, V6},
    Namespace, Pod, Result, Station, Vm, configure, nft,
    probe::{self, ECHO_PORT, EchoServer},
};
use serde_json::{Value, json};

const TRY_AGAIN: u32 = 11;
const LIMITED: u32 = 51;
const QUICK: &str = "reconcile.interval_secs = 1\npool.cooldown_secs = 0";

fn status(vm: &Vm) -> Result<Option<CniError>> {
    let output = vm.cni(&CniCall::new("STATUS")?.netconf(&vm.netconf()))?;
    if output.status.success() { Ok(None) } else { output.error().map(Some) }
}

fn is_well(status: &Value) -> bool {
    status["problems"] == json!([])
}

#[test]
fn ipv6_switched_off_at_the_uplink_fails_status_and_add_alike_and_says_what_to_do() -> Result<()> {
    let net = Fabric::builder().dual_stack().agent_toml(QUICK).start()?;
    let vm = net.vm(0);
    let pod = vm.add_pod("a")?;
    let command = "sysctl -w net.ipv6.conf.eth0.disable_ipv6=0";
    for conf in ["eth0", "all"] {
        let key = format!("net/ipv6/conf/{conf}/disable_ipv6");
        vm.namespace().sysctl(&key, "1")?;
        let error = status(vm)?.expect("pods have no IPv6");
        assert_eq!(error.code, LIMITED, "{error}");
        assert!(error.msg.contains(command), "{error}");
        let namespace = Namespace::create("refused")?;
        let add = CniCall::new("ADD")?.attachment("refused", namespace.path(), "eth0").netconf(&vm.netconf());
        let refused = vm.cni(&add)?.error()?;
        assert_eq!(refused.code, TRY_AGAIN, "{refused}");
        assert!(refused.msg.contains(command), "{refused}");

        // Only where pods need it: the interfaces of pods are the agent's.
        vm.namespace().sysctl("net/ipv6/conf/eth0/disable_ipv6", "0")?;
        let address = vm.address6().expect("dual-stack");
        configure(
            vm.namespace(),
            &format!("addr add {address}/128 dev eth0 nodad\nroute add default via {GATEWAY6} dev eth0"),
        )?;
        vm.await_status("well", is_well)?;
        assert!(status(vm)?.is_none());
        let (new, echo) = (vm.add_pod("new")?, EchoServer::start_on(&pod, (pod.ip(V6), ECHO_PORT))?);
        let peer = EchoServer::start_on(net.peer(), (net.peer().ip(V6), ECHO_PORT))?;
        vm.await_status("reachable", |_| probe::tcp(vm, echo.address()).is_ok())?;
        for pod in [&pod, &new] {
            assert_eq!(probe::tcp(pod, peer.address())?.source_seen.ip(), pod.ip(V6), "{conf}");
        }
        new.del()?;
    }
    pod.del()?;
    vm.expect_clean()
}

fn run(vm: &Vm, command: &str) -> Result<()> {
    let mut words = command.split(' ');
    let program = words.next().unwrap_or_default();
    let output = vm.namespace().command(program)?.args(words).output().expect("it is installed");
    assert!(output.status.success(), "{command}: {output:?}");
    Ok(())
}

fn chain(family: &str) -> String {
    format!("table {family} own {{\n chain forward {{\n type filter hook forward priority 0; policy drop;\n }}\n}}\n")
}

#[test]
fn forward_policy_that_drops_is_a_problem_for_the_operator_and_not_for_status() -> Result<()> {
    let net = Fabric::builder().dual_stack().start()?;
    let vm = net.vm(0);
    let nftables = |family| (chain(family), "chain", format!("add rule {family} own forward iifname \"azv*\" accept"));
    for (script, word, accept) in ["ip", "ip6", "inet"].map(nftables) {
        nft(vm.namespace(), &script)?;
        assert_is_the_operators(vm, word)?;
        nft(vm.namespace(), &accept)?;
        vm.await_status("well, as a rule names pods' interfaces", is_well)?;
        nft(vm.namespace(), "flush ruleset")?;
    }
    for program in ["iptables-nft", "ip6tables-nft", "iptables-legacy", "ip6tables-legacy"] {
        run(vm, &format!("{program} -P FORWARD DROP"))?;
        assert_is_the_operators(vm, "FORWARD")?;
        run(vm, &format!("{program} -I FORWARD -i azv+ -j ACCEPT"))?;
        vm.await_status(&format!("well by {program}"), is_well)?;
        run(vm, &format!("{program} -F FORWARD"))?;
        run(vm, &format!("{program} -P FORWARD ACCEPT"))?;
        vm.await_status(&format!("well by {program}"), is_well)?;
    }
    Ok(())
}

fn assert_is_the_operators(vm: &Vm, word: &str) -> Result<()> {
    let is_told = |status: &Value| {
        let problems = status["problems"].to_string();
        ["policy", word, "-i azv+"].iter().all(|part| problems.contains(part))
    };
    vm.await_status(&format!("the policy of {word}"), is_told)?;
    assert!(status(vm)?.is_none(), "a rule may accept what pods send");
    Ok(())
}

#[test]
fn looking_for_policies_makes_no_table() -> Result<()> {
    let net = Fabric::builder().dual_stack().start()?;
    let vm = net.vm(0);
    assert!(is_well(&vm.status()?));
    let names = vm.namespace().run(|| std::fs::read_to_string("/proc/thread-self/net/ip_tables_names"));
    assert_eq!(names.unwrap_or_default(), "");
    assert_eq!(nft(vm.namespace(), "list ruleset")?, "");
    Ok(())
}

fn assert_reachable(vm: &Vm, pod: &Pod) -> Result<()> {
    for version in [V4, V6] {
        let inside = EchoServer::start_on(pod, (pod.ip(version), ECHO_PORT))?;
        let outside = EchoServer::start_on(vm, (vm.ip(version), ECHO_PORT))?;
        probe::tcp(vm, inside.address())?;
        probe::tcp(pod, outside.address())?;
    }
    Ok(())
}

#[test]
fn pod_with_another_mac_address_is_reached_again_and_so_is_its_gateway() -> Result<()> {
    let net = Fabric::builder().dual_stack().agent_toml(QUICK).start()?;
    let vm = net.vm(0);
    let pod = vm.add_pod("a")?;
    let added = azure_cni_tests::query(pod.namespace(), "link show eth0")?[0]["address"].clone();
    let added = added.as_str().expect("a MAC address");
    for (mac, times) in [("02:00:00:00:12:34", 1), (added, 2)] {
        configure(pod.namespace(), &format!("link set eth0 address {mac}"))?;
        let repaired = |status: &Value| status["repairs"]["pod-gateway-repaired"] == times && is_well(status);
        vm.await_status("repaired", repaired)?;
        // Both families.
        vm.await_status("neighbours", |status| status["repairs"]["neighbour-repaired"] == 2 * times)?;
        assert_reachable(vm, &pod)?;
    }
    pod.check()?;
    pod.del()?;
    vm.expect_clean()
}

#[test]
fn host_interface_with_another_mac_address_gets_its_own_back() -> Result<()> {
    let net = Fabric::builder().dual_stack().agent_toml(QUICK).agent_toml("reconcile.interval_secs = 2").start()?;
    let vm = net.vm(0);
    let pod = vm.add_pod("a")?;
    let change = format!("link set {} address 02:00:00:00:12:34", pod.host_interface());
    configure(vm.namespace(), &change)?;
    let error = vm.cni(&pod.call("CHECK")?)?.error()?;
    assert!(error.msg.contains("another MAC address"), "{error}");
    vm.await_status("repaired", |status| status["repairs"]["veth-mac-repaired"] == 1)?;
    vm.await_status("neighbours", |status| status["repairs"]["neighbour-repaired"].as_u64() >= Some(2))?;
    assert_reachable(vm, &pod)?;
    pod.check()?;
    pod.del()?;
    vm.expect_clean()
}

#[test]
fn network_configuration_that_add_refuses_is_no_reason_to_evict_pods() -> Result<()> {
    let net = Fabric::builder().dual_stack().start()?;
    let vm = net.vm(0);
    let mut netconf = vm.netconf();
    netconf["mtu"] = 1279.into();
    let output = vm.cni(&CniCall::new("STATUS")?.netconf(&netconf))?;
    assert!(output.status.success(), "{output:?}");
    let problems = vm.status()?["problems"].to_string();
    assert!(problems.contains("1279") && problems.contains("refused"), "{problems}");
    assert!(status(vm)?.is_none());
    assert!(is_well(&vm.status()?), "the next configuration is fine");
    Ok(())
}
