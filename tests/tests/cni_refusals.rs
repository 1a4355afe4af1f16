//! Calls that must fail, with the right code and an error object on standard output, and without leaving anything.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use azure_cni_tests::{CniCall, CniError, Fabric, Namespace, Result, Station, Vm, configure, query};
use serde_json::{Value, json};

/// The CNI specification, section "Error".
const INCOMPATIBLE_VERSION: u32 = 1;
const ENVIRONMENT: u32 = 4;
const DECODE: u32 = 6;
const INVALID_CONFIG: u32 = 7;
const INVALID_NETNS: u32 = 8;
const TRY_AGAIN: u32 = 11;
/// The plugin's own.
const INTERFACE_EXISTS: u32 = 103;

/// Makes a call that must fail in the form that the specification requires.
fn refused(vm: &Vm, call: &CniCall) -> Result<CniError> {
    let output = vm.cni(call)?;
    assert!(!output.status.success(), "{output:?}");
    let object: BTreeMap<String, Value> = serde_json::from_value(output.json()?).expect("an object");
    assert_eq!(object.keys().collect::<Vec<_>>(), ["cniVersion", "code", "details", "msg"]);
    output.error()
}

fn add(vm: &Vm, namespace: &Namespace) -> Result<CniCall> {
    Ok(CniCall::new("ADD")?.attachment("refused", namespace.path(), "eth0").netconf(&vm.netconf()))
}

#[test]
fn add_that_no_agent_could_serve_is_refused_with_the_code_of_its_fault() -> Result<()> {
    let net = Fabric::builder().start()?;
    let vm = net.vm(0);
    let namespace = Namespace::create("refused")?;
    let good = add(vm, &namespace)?;
    let with = |key: &str, value: Value| {
        let mut netconf = vm.netconf();
        netconf[key] = value;
        good.clone().netconf(&netconf)
    };
    let own_namespace = format!("/run/netns/{}", vm.name());
    let cases = [
        ("the VM's own namespace", good.clone().with("CNI_NETNS", &own_namespace), INVALID_NETNS),
        ("no such namespace", good.clone().with("CNI_NETNS", "/run/netns/nobody"), INVALID_NETNS),
        ("a file that is no namespace", good.clone().with("CNI_NETNS", "/proc/self/status"), INVALID_NETNS),
        ("no JSON", good.clone().raw_stdin("{"), DECODE),
        ("a version to come", with("cniVersion", json!("9.0.0")), INCOMPATIBLE_VERSION),
        ("a name with a slash", with("name", json!("a/b")), INVALID_CONFIG),
        ("a mode of another plugin", with("mode", json!("transparent-vlan")), INVALID_CONFIG),
        ("multitenancy", with("multiTenancy", json!(true)), INVALID_CONFIG),
        ("an interface name too long", good.clone().with("CNI_IFNAME", "sixteen-letters-"), ENVIRONMENT),
    ];
    for (what, call, code) in cases {
        let error = refused(vm, &call)?;
        assert_eq!(error.code, code, "{what}: {error}");
        vm.expect_clean()?;
    }
    let error = refused(vm, &good.without("CNI_NETNS").without("CNI_IFNAME"))?;
    assert_eq!(error.code, ENVIRONMENT);
    assert!(error.msg.contains("CNI_NETNS") && error.msg.contains("CNI_IFNAME"), "{error}");
    vm.expect_clean()
}

#[test]
fn add_into_a_namespace_that_has_the_interface_is_refused_and_touches_nothing() -> Result<()> {
    for attach in ["tcx", "clsact"] {
        let net = Fabric::builder().agent_toml(&format!("datapath.attach = '{attach}'")).start()?;
        let vm = net.vm(0);
        let namespace = Namespace::create("taken")?;
        configure(&namespace, "link add eth0 type veth peer name other\naddr add 192.0.2.1/32 dev eth0\n")?;
        let before = query(&namespace, "addr show dev eth0")?;
        for _ in 0..2 {
            let error = refused(vm, &add(vm, &namespace)?)?;
            assert_eq!(error.code, INTERFACE_EXISTS, "{error}");
            assert!(error.msg.contains("eth0"), "{error}");
            vm.expect_clean()?;
        }
        assert_eq!(query(&namespace, "addr show dev eth0")?, before);
        configure(&namespace, "link del eth0")?;
        let call = add(vm, &namespace)?;
        assert!(vm.cni(&call)?.status.success());
        assert!(vm.cni(&call.with("CNI_COMMAND", "DEL"))?.status.success());
        vm.expect_clean()?;
    }
    Ok(())
}

#[test]
fn call_waits_for_an_agent_that_restarts_and_fails_with_try_again_if_none_comes() -> Result<()> {
    let net = Fabric::builder().start()?;
    let vm = net.vm(0);
    let pod = vm.add_pod("a")?;
    vm.stop_agent()?;
    let namespace = Namespace::create("refused")?;
    for call in [add(vm, &namespace)?, pod.call("CHECK")?] {
        let began = Instant::now();
        let error = refused(vm, &call)?;
        assert!(began.elapsed() < Duration::from_secs(15), "a runtime must not be held: {:?}", began.elapsed());
        assert_eq!(error.code, TRY_AGAIN, "{error}");
        assert!(error.msg.contains(&*vm.socket().to_string_lossy()), "{error}");
    }
    let call = add(vm, &namespace)?;
    std::thread::scope(|scope| -> Result<()> {
        let waiting = scope.spawn(|| vm.cni(&call));
        std::thread::sleep(Duration::from_millis(50));
        vm.start_agent()?;
        assert!(waiting.join().expect("does not panic")?.status.success());
        Ok(())
    })?;
    assert!(vm.cni(&call.with("CNI_COMMAND", "DEL"))?.status.success());
    pod.del()?;
    vm.expect_clean()
}
