//! What a runtime may request for one pod: it is either fulfilled exactly or refused.

use azure_cni_tests::{CniCall, Fabric, Namespace, Result, Station, Vm, probe, probe::EchoServer, query};
use serde_json::{Value, json};

const MAC: &str = "02:11:22:33:44:55";

fn with(vm: &Vm, key: &str, value: Value) -> Value {
    let mut netconf = vm.netconf();
    netconf[key] = value;
    netconf
}

#[test]
fn pod_gets_the_requested_mac_which_the_result_has_and_check_verifies() -> Result<()> {
    let net = Fabric::builder().vms(2).start()?;
    let vm = net.vm(0);
    let pod = vm.add_pod_with("a", with(vm, "runtimeConfig", json!({"mac": MAC.to_uppercase()})))?;
    assert_eq!(pod.result()["interfaces"][1]["mac"], MAC);
    assert_eq!(query(pod.namespace(), "link show dev eth0")?[0]["address"], MAC);
    assert_eq!(vm.endpoints()?[0]["podMac"], MAC);
    let other = vm.add_pod("b")?;
    for station in [vm as &dyn Station, &other, net.internet()] {
        let echo = EchoServer::start(station)?;
        probe::tcp(&pod, echo.address())?;
    }
    let echo = EchoServer::start(&pod)?;
    probe::tcp(&other, echo.address())?;
    drop(echo);
    pod.check()?;
    vm.restart_agent()?;
    pod.check()?;
    pod.del()?;
    other.del()?;
    vm.expect_clean()
}

#[test]
fn invalid_request_is_refused_before_anything_is_made() -> Result<()> {
    let net = Fabric::builder().start()?;
    let vm = net.vm(0);
    let namespace = Namespace::create("refused")?;
    for (runtime, args, named) in [
        (json!({"mac": "01:00:5e:00:00:01"}), "", "runtimeConfig.mac"),
        (json!({"mac": MAC}), "MAC=02:00:00:00:00:01", "MAC of CNI_ARGS"),
        (json!({"ips": ["10.240.0.5", "10.240.0.6"]}), "", "one of each family"),
        (json!({"ips": ["10.240.0.5"]}), "IP=10.240.0.6", "IP of CNI_ARGS"),
        (
            json!({"io.kubernetes.cri.pod-annotations": {"azure-cni-ebpf/public-address": "maybe"}}),
            "",
            "public-address",
        ),
    ] {
        let netconf = with(vm, "runtimeConfig", runtime.clone());
        let call = CniCall::new("ADD")?.attachment("refused", namespace.path(), "eth0").netconf(&netconf);
        let error = vm.cni(&call.with("CNI_ARGS", args))?.error()?;
        assert_eq!(error.code, 7, "{runtime}: {error}");
        assert!(error.msg.contains(named), "{runtime}: {error}");
        vm.expect_clean()?;
    }
    Ok(())
}

#[test]
fn result_has_the_dns_of_the_runtime() -> Result<()> {
    let net = Fabric::builder().start()?;
    let vm = net.vm(0);
    let runtime = json!({"dns": {"servers": ["168.63.129.16"], "searches": ["cluster.local"], "options": ["ndots:5"]}});
    let pod = vm.add_pod_with("a", with(vm, "runtimeConfig", runtime))?;
    let dns = json!({"nameservers": ["168.63.129.16"], "search": ["cluster.local"], "options": ["ndots:5"]});
    assert_eq!(pod.result()["dns"], dns);
    pod.del()
}

#[test]
fn fields_without_meaning_are_logged_once() -> Result<()> {
    let net = Fabric::builder().start()?;
    let vm = net.vm(0);
    for _ in 0..2 {
        vm.add_pod_with("a", with(vm, "enableSnatOnHost", json!(true)))?.del()?;
    }
    vm.add_pod_with("b", with(vm, "vnetCidrs", json!("10.0.0.0/8")))?.del()?;
    let log = vm.agent_log();
    for field in ["enableSnatOnHost", "vnetCidrs"] {
        assert_eq!(log.matches(field).count(), 1, "{field}: {log}");
    }
    vm.expect_clean()
}

#[test]
fn network_on_another_nic_than_the_agents_is_refused() -> Result<()> {
    let net = Fabric::builder().start()?;
    let vm = net.vm(0);
    let pod = vm.add_pod_with("here", with(vm, "master", json!("eth0")))?;
    pod.del()?;
    let namespace = Namespace::create("elsewhere")?;
    let call = |command| -> Result<CniCall> {
        let call = CniCall::new(command)?.attachment("elsewhere", namespace.path(), "eth0");
        Ok(call.netconf(&with(vm, "master", json!("eth1"))))
    };
    let error = vm.cni(&call("ADD")?)?.error()?;
    assert_eq!(error.code, 7, "{error}");
    assert!(error.msg.contains("eth1") && error.msg.contains("eth0"), "{error}");
    // No reason to evict the pods that the node has.
    let status = call("STATUS")?;
    vm.cni(&status)?.succeeded(&status)?;
    vm.expect_clean()
}
