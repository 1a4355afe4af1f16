//! A pod that requests a certain address, or one with a public address, gets exactly that.

use std::net::{IpAddr, Ipv4Addr};

use azure_cni_tests::{
    Fabric, Pod, Result, Station, VNET_PREFIX, Vm, configure,
    probe::{self, EchoServer},
};
use serde_json::{Value, json};

const INVALID: u32 = 7;
const TRY_AGAIN: u32 = 11;

fn with(vm: &Vm, key: &str, value: Value) -> Value {
    let mut netconf = vm.netconf();
    netconf[key] = value;
    netconf
}

/// The code of an ADD that must be refused.
fn refused(vm: &Vm, name: &str, netconf: Value) -> u32 {
    match vm.add_pod_with(name, netconf) {
        Ok(pod) => panic!("{name} got {}", pod.address()),
        Err(error) => error.refusal().unwrap_or_else(|| panic!("{error}")).code,
    }
}

#[test]
fn pod_gets_the_address_that_is_requested_in_any_place() -> Result<()> {
    let net = Fabric::builder().agent_toml("pool.cooldown_secs = 0").start()?;
    let vm = net.vm(0);
    // Not the address that would be next.
    let wanted = vm.pool()[9];
    for (number, (key, value)) in [
        ("runtimeConfig", json!({"ips": [wanted]})),
        ("runtimeConfig", json!({"ips": [format!("{wanted}/16")]})),
        ("args", json!({"cni": {"ips": [wanted]}})),
        ("ipam", json!({"type": "azure-vnet-ipam", "ipAddress": wanted})),
    ]
    .into_iter()
    .enumerate()
    {
        let (name, netconf) = (format!("pod{number}"), with(vm, key, value));
        let pod = vm.add_pod_with(&name, netconf.clone())?;
        assert_eq!(pod.address(), wanted, "{netconf}");
        probe::ping(vm, wanted)?;
        pod.check()?;
        pod.del()?;
    }
    let pod = vm.add_pod("plain")?;
    pod.del()?;
    let by_variable = pod.call("ADD")?.with("CNI_ARGS", &format!("IgnoreUnknown=1;IP={wanted}"));
    assert_eq!(vm.cni(&by_variable)?.json()?["ips"][0]["address"], format!("{wanted}/32"));
    pod.del()?;
    vm.expect_clean()
}

#[test]
fn address_that_cannot_be_had_is_refused_and_no_other_is_given() -> Result<()> {
    let net = Fabric::builder().start()?;
    let vm = net.vm(0);
    let asking = |address: Ipv4Addr| with(vm, "runtimeConfig", json!({"ips": [address]}));
    let held = vm.add_pod_with("holder", asking(vm.pool()[2]))?;
    let before = vm.leftovers()?;
    for (address, code) in [
        (held.address(), TRY_AGAIN),
        // The VM's own address, and one outside of the pool.
        (vm.address(), INVALID),
        (Ipv4Addr::new(10, 99, 0, 1), INVALID),
    ] {
        assert_eq!(refused(vm, "late", asking(address)), code, "{address}");
    }
    // The attachment has another address than it requests now.
    let call = held.call("ADD")?.netconf(&asking(vm.pool()[3]));
    assert_eq!(vm.cni(&call)?.error()?.code, INVALID);
    assert_eq!(vm.leftovers()?, before);
    held.check()?;
    held.del()?;
    // It cools down: a request does not make it available earlier.
    assert_eq!(refused(vm, "too-soon", asking(held.address())), TRY_AGAIN);
    vm.expect_clean()
}

#[test]
fn both_families_can_be_requested_and_one_alone_leaves_the_other_to_the_pool() -> Result<()> {
    let net = Fabric::builder().dual_stack().start()?;
    let vm = net.vm(0);
    let addresses = |pod: &Pod| -> Vec<String> {
        let ips = pod.result()["ips"].as_array().expect("a list");
        ips.iter().filter_map(|ip| Some(ip["address"].as_str()?.split_once('/')?.0.to_owned())).collect()
    };
    let (v4, v6) = (vm.pool()[7], vm.pool6()[5]);
    let both = vm.add_pod_with("both", with(vm, "runtimeConfig", json!({"ips": [v6, v4]})))?;
    assert_eq!(addresses(&both), [v4.to_string(), v6.to_string()]);
    let one = vm.add_pod_with("one", with(vm, "runtimeConfig", json!({"ips": [vm.pool6()[6]]})))?;
    assert_eq!(addresses(&one)[1], vm.pool6()[6].to_string());
    [both, one].iter().try_for_each(Pod::del)?;
    vm.expect_clean()
}

#[test]
fn pod_that_requests_a_public_address_gets_one_and_keeps_it_towards_the_internet() -> Result<()> {
    let net = Fabric::builder().without_agents().agent_toml("pool.cooldown_secs = 0").start()?;
    let vm = net.vm(0);
    // The first of the pool. Other pods would get it if public addresses did not come last.
    let public = vm.pool()[0];
    vm.overlay_agent_toml(&format!("routing.public_addresses = ['{public}']"))?;
    vm.start_agent()?;
    configure(net.internet().namespace(), &format!("route add {VNET_PREFIX} via 198.51.100.1"))?;
    let echo = EchoServer::start(net.internet())?;
    let other = vm.add_pod("other")?;
    assert_ne!(other.address(), public);
    assert_eq!(probe::tcp(&other, echo.address())?.source_seen.ip(), IpAddr::from(vm.address()));

    let annotated = json!({"io.kubernetes.cri.pod-annotations": {"azure-cni-ebpf/public-address": "true"}});
    for (number, (key, value)) in [
        ("publicAddress", json!(true)),
        ("runtimeConfig", annotated),
        ("args", json!({"cni": {"publicAddress": "true"}})),
    ]
    .into_iter()
    .enumerate()
    {
        let pod = vm.add_pod_with(&format!("public{number}"), with(vm, key, value.clone()))?;
        assert_eq!(pod.address(), public, "{key}: {value}");
        assert_eq!(probe::tcp(&pod, echo.address())?.source_seen.ip(), IpAddr::from(public), "{key}");
        assert_eq!(refused(vm, "second", with(vm, key, value)), TRY_AGAIN);
        pod.del()?;
    }
    other.del()?;
    vm.expect_clean()
}
