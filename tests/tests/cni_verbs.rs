//! ADD, DEL and VERSION as runtimes make them, in every version of the protocol.

use azure_cni_tests::{
    CniCall, CniOutput, Fabric, Namespace, Result, Station,
    probe::{self, Connection, EchoServer},
    query,
};
use serde_json::{Value, json};

const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
/// The CNI specification, section "Error".
const INCOMPATIBLE_VERSION: u32 = 1;

#[test]
fn add_check_and_del_go_round_in_every_version() -> Result<()> {
    let net = Fabric::builder().start()?;
    let vm = net.vm(0);
    for version in VERSIONS {
        let mut netconf = vm.netconf();
        netconf["cniVersion"] = version.into();
        let pod = vm.add_pod_with(&format!("v{version}"), netconf)?;
        let result = pod.result();
        assert_eq!(result["cniVersion"], version);
        // Dropped with 1.0.0.
        let family = if version < "1.0.0" { json!("4") } else { Value::Null };
        assert_eq!(result["ips"][0]["version"], family, "{version}");
        // Came with 1.1.0.
        assert_eq!(result["interfaces"][0]["mtu"].is_null(), version < "1.1.0", "{version}");
        assert_eq!(result["ips"][0]["address"], format!("{}/32", pod.address()));
        let inside = result["ips"][0]["interface"].as_u64().expect("an index") as usize;
        assert_eq!(result["interfaces"][inside]["name"], "eth0");
        assert_eq!(result["interfaces"][inside]["sandbox"], pod.namespace().path().to_string_lossy().as_ref());
        assert_eq!(result["interfaces"][0]["mac"], "aa:aa:aa:aa:aa:aa");

        let check = vm.cni(&pod.call("CHECK")?)?;
        if version < "0.4.0" {
            assert_eq!(check.error()?.code, INCOMPATIBLE_VERSION);
        } else {
            assert!(check.status.success() && check.stdout.is_empty(), "{version}: {check:?}");
        }
        let del = vm.cni(&pod.call("DEL")?)?;
        assert!(del.status.success() && del.stdout.is_empty(), "{version}: {del:?}");
        assert_eq!(interfaces(pod.namespace())?, ["lo"]);
        vm.expect_clean()?;
    }
    Ok(())
}

fn interfaces(namespace: &Namespace) -> Result<Vec<String>> {
    let links = query(namespace, "link show")?;
    Ok(links.iter().filter_map(|link| Some(link["ifname"].as_str()?.to_owned())).collect())
}

#[test]
fn add_builds_what_operators_of_the_transparent_mode_know() -> Result<()> {
    const GATEWAY: &str = "169.254.1.1";
    let net = Fabric::builder().mtu(1400).start()?;
    let vm = net.vm(0);
    let pod = vm.add_pod("a")?;
    let host = pod.host_interface();
    let digits = host.strip_prefix("azv").expect("the name that operators know");
    assert!(digits.len() == 11 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()), "{host}");

    let outside = &query(vm.namespace(), &format!("link show dev {host}"))?[0];
    assert_eq!((&outside["address"], &outside["mtu"]), (&json!("aa:aa:aa:aa:aa:aa"), &json!(1400)));
    let route = query(vm.namespace(), &format!("-4 route show {}/32", pod.address()))?;
    assert_eq!((route.len(), &route[0]["dev"]), (1, &json!(host)));
    let accept_ra = format!("/proc/sys/net/ipv6/conf/{host}/accept_ra");
    let accept_ra = vm.namespace().run(|| std::fs::read_to_string(accept_ra)).expect("the machine has IPv6");
    assert_eq!(accept_ra.trim(), "0");

    let inside = &query(pod.namespace(), "-4 addr show dev eth0")?[0];
    assert_eq!(inside["mtu"], 1400);
    let addresses: Vec<_> = inside["addr_info"].as_array().expect("a list").iter().collect();
    assert_eq!(addresses.len(), 1, "{inside}");
    assert_eq!((&addresses[0]["local"], &addresses[0]["prefixlen"]), (&json!(pod.address()), &json!(32)));
    let routes = query(pod.namespace(), "-4 route show")?;
    let seen: Vec<_> = routes.iter().map(|route| (&route["dst"], &route["gateway"], &route["scope"])).collect();
    let expected =
        [(&json!("default"), &json!(GATEWAY), &json!("global")), (&json!(GATEWAY), &Value::Null, &json!("link"))];
    assert_eq!(seen, expected);
    let neighbour = &query(pod.namespace(), &format!("neigh show {GATEWAY}"))?[0];
    assert_eq!((&neighbour["lladdr"], &neighbour["state"]), (&json!("aa:aa:aa:aa:aa:aa"), &json!(["PERMANENT"])));
    pod.del()?;
    vm.expect_clean()
}

#[test]
fn same_add_again_gives_the_same_result_and_leaves_the_pods_connections_alone() -> Result<()> {
    let net = Fabric::builder().start()?;
    let vm = net.vm(0);
    let pod = vm.add_pod("a")?;
    let echo = EchoServer::start(net.internet())?;
    let mut connection = Connection::open(&pod, echo.address())?;
    let again = vm.cni(&pod.call("ADD")?)?;
    assert_eq!(again.json()?, *pod.result());
    connection.round_trip(b"still there")?;
    assert_eq!(vm.status()?["pool"]["leased"], 1);
    drop(connection);
    pod.del()?;
    vm.expect_clean()
}

#[test]
fn add_after_the_namespace_was_lost_gives_the_attachment_a_new_life() -> Result<()> {
    let net = Fabric::builder().start()?;
    let vm = net.vm(0);
    // Its namespace vanishes without a DEL, as when a sandbox is made again under the same name.
    drop(vm.add_pod("a")?);
    let pod = vm.add_pod("a")?;
    assert_eq!(vm.status()?["pool"]["leased"], 1);
    let echo = EchoServer::start(vm)?;
    assert_eq!(probe::tcp(&pod, echo.address())?.source_seen.ip(), pod.address());
    pod.del()?;
    vm.expect_clean()
}

#[test]
fn del_succeeds_twice_and_without_its_namespace_and_for_the_unknown() -> Result<()> {
    let net = Fabric::builder().start()?;
    let vm = net.vm(0);
    let pod = vm.add_pod("twice")?;
    pod.del()?;
    pod.del()?;
    vm.expect_clean()?;

    let gone = vm.add_pod("gone")?.lose_namespace()?;
    assert_silent_success(vm.cni(&gone)?);
    vm.expect_clean()?;

    let pod = vm.add_pod("little-known")?;
    let call = pod.call("DEL")?.without("CNI_NETNS").netconf(&vm.netconf());
    assert_silent_success(vm.cni(&call)?);
    assert_eq!(interfaces(pod.namespace())?, ["lo"]);
    vm.expect_clean()?;

    let bystander = vm.add_pod("bystander")?;
    let never_added = pod.call("DEL")?.with("CNI_CONTAINERID", "never-added");
    assert_silent_success(vm.cni(&never_added)?);
    // The runtime names the VM's own namespace. Nothing in it may be touched.
    let own = never_added.with("CNI_NETNS", "/proc/self/ns/net");
    assert_silent_success(vm.cni(&own)?);
    bystander.check()?;
    bystander.del()?;
    vm.expect_clean()
}

fn assert_silent_success(output: CniOutput) {
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
}

#[test]
fn attachments_that_differ_in_the_network_alone_are_two() -> Result<()> {
    let net = Fabric::builder().start()?;
    let vm = net.vm(0);
    let pod = vm.add_pod("a")?;
    let elsewhere = Namespace::create("elsewhere")?;
    let mut netconf = vm.netconf();
    netconf["name"] = "other".into();
    let add = pod.call("ADD")?.with("CNI_NETNS", &elsewhere.path().to_string_lossy()).netconf(&netconf);
    let result = vm.cni(&add)?.json()?;
    assert_ne!(result["ips"][0]["address"], pod.result()["ips"][0]["address"]);
    assert_ne!(result["interfaces"][0]["name"], pod.result()["interfaces"][0]["name"]);
    assert_silent_success(vm.cni(&add.with("CNI_COMMAND", "DEL"))?);
    pod.check()?;
    pod.del()?;
    vm.expect_clean()
}

#[test]
fn configuration_of_the_reference_plugin_works_unchanged() -> Result<()> {
    let net = Fabric::builder().start()?;
    let vm = net.vm(0);
    let netconf = json!({
        "cniVersion": "0.3.0", "name": "azure", "type": "azure-vnet", "mode": "transparent",
        "ipsToRouteViaHost": ["169.254.20.10"], "ipam": {"type": "azure-vnet-ipam"},
    });
    let namespace = Namespace::create("plain")?;
    let call = |command| -> Result<CniCall> {
        let call = CniCall::new(command)?.attachment("plain", namespace.path(), "eth0").netconf(&netconf);
        Ok(call.with("AZURE_CNI_SOCKET", &vm.socket().to_string_lossy()))
    };
    let result = vm.cni(&call("ADD")?)?.json()?;
    assert_eq!(result["cniVersion"], "0.3.0");
    assert_silent_success(vm.cni(&call("DEL")?)?);
    vm.expect_clean()
}

#[test]
fn version_is_answered_without_an_agent() -> Result<()> {
    let net = Fabric::builder().without_agents().start()?;
    let call = CniCall::new("VERSION")?.netconf(&json!({"cniVersion": "0.4.0"}));
    let answer = net.vm(0).cni(&call)?;
    assert!(answer.status.success());
    assert_eq!(answer.json()?, json!({"cniVersion": "0.4.0", "supportedVersions": VERSIONS}));
    Ok(())
}
