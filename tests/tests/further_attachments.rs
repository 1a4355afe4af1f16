//! Several interfaces of one pod, as with Multus: each is reached and sends with its own address, and none takes another's routes.

use std::net::{IpAddr, SocketAddr};

use azure_cni_tests::{
    CniCall, Error, Fabric, FabricBuilder, IpVersion, Namespace, Pod, Result, Station, Vm, configure,
    probe::{Connection, ECHO_PORT, EchoServer, udp_from},
    query,
};
use serde_json::{Value, json};

const BOTH: [IpVersion; 2] = [IpVersion::V4, IpVersion::V6];

fn network() -> FabricBuilder {
    Fabric::builder().dual_stack().pool(8).agent_toml("pool.cooldown_secs = 0")
}

/// A further interface of a pod.
struct Further<'net> {
    pod: &'net Pod<'net>,
    ifname: &'static str,
    netconf: Value,
    result: Value,
}

impl<'net> Further<'net> {
    fn add(pod: &'net Pod<'net>, ifname: &'static str, cni_version: &str) -> Result<Self> {
        let mut netconf = pod.vm().netconf();
        netconf["cniVersion"] = json!(cni_version);
        let mut further = Self { pod, ifname, netconf, result: Value::Null };
        let call = further.call("ADD")?;
        further.result = pod.vm().cni(&call)?.succeeded(&call)?.json()?;
        Ok(further)
    }

    fn call(&self, command: &str) -> Result<CniCall> {
        let mut netconf = self.netconf.clone();
        if command != "ADD" {
            netconf["prevResult"] = self.result.clone();
        }
        let call = CniCall::new(command)?.attachment(self.pod.container_id(), self.pod.namespace().path(), self.ifname);
        Ok(call.netconf(&netconf))
    }

    fn succeed(&self, command: &str) -> Result<()> {
        let call = self.call(command)?;
        self.pod.vm().cni(&call)?.succeeded(&call).map(drop)
    }

    fn ip(&self, version: IpVersion) -> IpAddr {
        let ips = self.result["ips"].as_array().expect("a list").iter();
        let mut addresses = ips.filter_map(|ip| ip["address"].as_str()?.split_once('/')?.0.parse::<IpAddr>().ok());
        addresses.find(|address| IpVersion::of(*address) == version).expect("both families")
    }
}

/// One of the pod's addresses answers the wire, another pod and the host; and the pod reaches them from it.
fn works(pod: &Pod, at: impl Fn(IpVersion) -> IpAddr, others: &[&dyn Station]) -> Result<()> {
    for version in BOTH {
        let own = at(version);
        let server = EchoServer::start_on(pod, (own, ECHO_PORT))?;
        for other in others {
            let there: SocketAddr = (other.ip(version), ECHO_PORT).into();
            let inbound = Connection::open(*other, server.address())?.reached();
            assert_eq!(inbound.source_seen.ip(), inbound.source_used.ip(), "{} to {own}", other.name());
            assert_eq!(inbound.source_seen.ip(), other.ip(version), "{} to {own}", other.name());
            let _far = EchoServer::start_on(*other, there)?;
            let seen = Connection::open_from(pod, (own, 0), there)?.reached().source_seen.ip();
            assert_eq!(seen, own, "to {}", other.name());
            assert_eq!(udp_from(pod, (own, 0), there)?.source_seen.ip(), own, "to {}", other.name());
        }
    }
    Ok(())
}

fn shown(namespace: &Namespace, question: &str) -> Result<String> {
    query(namespace, question).map(|answer| json!(answer).to_string())
}

/// One `ip` command, which may name its family: a batch takes no options.
fn ip(namespace: &Namespace, line: &str) -> Result<()> {
    let status = namespace.command("ip")?.args(line.split_whitespace()).status();
    assert!(status.as_ref().is_ok_and(|status| status.success()), "ip {line}: {status:?}");
    Ok(())
}

/// Routes and rules of a pod.
fn of_pod(pod: &Pod) -> Result<String> {
    let mut text = String::new();
    for what in ["-4 route show table all", "-6 route show table all", "-4 rule", "-6 rule"] {
        text += &shown(pod.namespace(), what)?;
    }
    Ok(text)
}

#[test]
fn each_interface_of_a_pod_works_and_the_del_of_either_leaves_the_other_working() -> Result<()> {
    for first_goes_first in [true, false] {
        let net = network().start()?;
        let vm = net.vm(0);
        let (pod, other) = (vm.add_pod("a")?, vm.add_pod("other")?);
        let others: [&dyn Station; 3] = [net.peer(), &other, vm];
        let alone = of_pod(&pod)?;
        let further = Further::add(&pod, "net1", "1.1.0")?;
        works(&pod, |version| pod.ip(version), &others)?;
        works(&pod, |version| further.ip(version), &others)?;
        // What does not choose a source goes out as before.
        let echo = EchoServer::start(net.peer())?;
        assert_eq!(Connection::open(&pod, echo.address())?.reached().source_seen.ip(), pod.address());
        drop(echo);
        pod.check()?;
        further.succeed("CHECK")?;
        // The same ADD again gives the same result.
        let call = further.call("ADD")?;
        assert_eq!(vm.cni(&call)?.succeeded(&call)?.json()?, further.result);

        if first_goes_first {
            pod.del()?;
            works(&pod, |version| further.ip(version), &others)?;
            further.succeed("CHECK")?;
            further.succeed("DEL")?;
        } else {
            further.succeed("DEL")?;
            assert_eq!(of_pod(&pod)?, alone);
            works(&pod, |version| pod.ip(version), &others)?;
            pod.check()?;
            pod.del()?;
        }
        assert!(!of_pod(&pod)?.contains("30000"), "a rule is left: {}", of_pod(&pod)?);
        further.succeed("DEL")?;
        other.del()?;
        vm.expect_clean()?;
    }
    Ok(())
}

#[test]
fn result_of_a_further_interface_names_the_table_of_its_routes() -> Result<()> {
    let net = network().start()?;
    let vm = net.vm(0);
    let pod = vm.add_pod("a")?;
    assert!(
        pod.result()["routes"].as_array().is_some_and(|routes| routes.iter().all(|route| route.get("table").is_none()))
    );
    let newer = Further::add(&pod, "net1", "1.1.0")?;
    let older = Further::add(&pod, "net2", "1.0.0")?;
    let routes = newer.result["routes"].as_array().expect("a list");
    let table = routes[0]["table"].as_u64().expect("a table");
    assert_eq!(routes.len(), 2);
    for (family, route) in ["-4", "-6"].iter().zip(routes) {
        let found = shown(pod.namespace(), &format!("{family} route show table {table} default"))?;
        let gateway = route["gw"].as_str().expect("a gateway");
        assert!(found.contains(gateway) && found.contains("net1") && route["table"] == table, "{found}");
    }
    // A default route without a table would be untrue, and these results have no word for it.
    assert_eq!(older.result["routes"], json!([]));
    for further in [&newer, &older] {
        works(&pod, |version| further.ip(version), &[net.peer()])?;
        further.succeed("CHECK")?;
        further.succeed("DEL")?;
    }
    pod.del()?;
    vm.expect_clean()
}

#[test]
fn check_of_a_further_interface_names_a_route_or_rule_that_is_gone() -> Result<()> {
    let net = network().start()?;
    let vm = net.vm(0);
    let pod = vm.add_pod("a")?;
    let further = Further::add(&pod, "net1", "1.1.0")?;
    let table = further.result["routes"][0]["table"].as_u64().expect("a table");
    let complaint = |words: &str| -> Result<()> {
        let error = vm.cni(&further.call("CHECK")?)?.error()?;
        assert!(error.msg.contains(words), "{words:?} is not in {error}");
        pod.check()
    };
    for (family, bits, version) in [("-4", 32, IpVersion::V4), ("-6", 128, IpVersion::V6)] {
        let own = further.ip(version);
        ip(pod.namespace(), &format!("{family} rule del from {own}/{bits}"))?;
        complaint(&format!("the pod lacks the rule for packets from {own}"))?;
        ip(pod.namespace(), &format!("{family} rule add from {own}/{bits} lookup {table} pref 30000"))?;
        further.succeed("CHECK")?;
        ip(pod.namespace(), &format!("{family} route del default table {table}"))?;
        complaint("the pod lacks the route to")?;
        let gateway = if version == IpVersion::V4 { "169.254.1.1" } else { "fe80::1234:5678:9abc" };
        ip(pod.namespace(), &format!("{family} route add default via {gateway} dev net1 table {table}"))?;
        further.succeed("CHECK")?;
    }
    further.succeed("DEL")?;
    pod.del()?;
    vm.expect_clean()
}

/// The pod's default route may be another plugin's, with any metric or through several routers.
#[test]
fn default_route_of_another_plugin_is_left_alone() -> Result<()> {
    let net = network().start()?;
    let vm = net.vm(0);
    let pod = vm.add_pod("a")?;
    pod.del()?;
    let inside = pod.namespace();
    for other in [
        [
            "-4 route add default via 192.0.2.1 dev other0 metric 100",
            "-6 route add default via 2001:db8::1 dev other0 metric 512",
        ],
        [
            "-4 route add default nexthop via 192.0.2.1 dev other0 nexthop via 192.0.2.2 dev other0",
            "-6 route add default nexthop via 2001:db8::1 dev other0 nexthop via 2001:db8::2 dev other0",
        ],
    ] {
        ip(inside, "link add other0 type veth peer name other1")?;
        for up in ["link set other0 up", "link set other1 up", "addr add 192.0.2.9/24 dev other0"] {
            ip(inside, up)?;
        }
        ip(inside, "-6 addr add 2001:db8::9/64 dev other0 nodad")?;
        other.iter().try_for_each(|route| ip(inside, route))?;
        let defaults =
            || Ok::<_, Error>(shown(inside, "-4 route show default")? + &shown(inside, "-6 route show default")?);
        let before = defaults()?;
        let further = Further::add(&pod, "net1", "1.1.0")?;
        assert_eq!(defaults()?, before);
        works(&pod, |version| further.ip(version), &[net.peer()])?;
        further.succeed("CHECK")?;
        further.succeed("DEL")?;
        assert_eq!(defaults()?, before);
        ip(inside, "link del other0")?;
    }
    vm.expect_clean()
}

/// What the agent knows of a further interface outlives it, and what it repairs takes nothing from the first.
#[test]
fn further_interface_survives_the_agent_its_store_and_its_veth() -> Result<()> {
    let net = network().agent_toml("reconcile.interval_secs = 1").start()?;
    let vm = net.vm(0);
    let pod = vm.add_pod("a")?;
    let further = Further::add(&pod, "net1", "1.1.0")?;
    let all_work = |vm: &Vm| -> Result<()> {
        pod.check()?;
        further.succeed("CHECK")?;
        works(&pod, |version| pod.ip(version), &[net.peer(), vm])?;
        works(&pod, |version| further.ip(version), &[net.peer(), vm])
    };
    vm.restart_agent()?;
    all_work(vm)?;
    vm.stop_agent()?;
    std::fs::remove_dir_all(vm.state_dir().join("attachments")).expect("the store");
    vm.start_agent()?;
    all_work(vm)?;
    for ifname in ["net1", "eth0"] {
        configure(pod.namespace(), &format!("link del {ifname}"))?;
        let rebuilt = if ifname == "net1" { 1 } else { 2 };
        vm.await_status("rebuilt", |status| status["repairs"]["veth-rebuilt"] == rebuilt)?;
        further.succeed("CHECK")?;
        works(&pod, |version| further.ip(version), &[net.peer()])?;
        pod.check()?;
    }
    all_work(vm)?;
    further.succeed("DEL")?;
    pod.del()?;
    vm.expect_clean()
}
