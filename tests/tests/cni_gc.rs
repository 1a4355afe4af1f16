//! GC frees the attachments of a network that the runtime no longer knows, and nothing else.

use std::thread;
use std::time::Duration;

use azure_cni_agent::steps::{Faults, Step};
use azure_cni_tests::{CniCall, Fabric, Pod, Result, Vm};
use serde_json::{Value, json};

/// The CNI specification, section "Error".
const INVALID_CONFIG: u32 = 7;
/// The plugin's own code for a fault of the agent.
const INTERNAL: u32 = 101;

fn gc(vm: &Vm, valid: &[&Pod]) -> Result<CniCall> {
    let mut netconf = vm.netconf();
    let entry = |pod: &&Pod| json!({"containerID": pod.container_id(), "ifname": "eth0"});
    netconf["cni.dev/valid-attachments"] = valid.iter().map(entry).collect::<Vec<_>>().into();
    Ok(CniCall::new("GC")?.netconf(&netconf))
}

fn assert_succeeds(vm: &Vm, call: &CniCall) -> Result<()> {
    let output = vm.cni(call)?;
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    Ok(())
}

#[test]
fn gc_frees_what_is_not_in_the_list_and_keeps_what_is() -> Result<()> {
    let net = Fabric::builder().start()?;
    let vm = net.vm(0);
    let (kept, lost) = (vm.add_pod("kept")?, vm.add_pod("lost")?);
    // Its namespace is gone, and no DEL came.
    drop(vm.add_pod("vanished")?);
    assert_succeeds(vm, &gc(vm, &[&kept])?)?;
    kept.check()?;
    assert!(vm.cni(&lost.call("CHECK")?)?.error()?.msg.contains("no attachment"));
    assert_eq!(vm.status()?["pool"]["leased"], 1);

    assert_succeeds(vm, &gc(vm, &[])?)?;
    vm.expect_clean()?;
    // There is nothing left to free, which is a success. The late DEL succeeds too.
    assert_succeeds(vm, &gc(vm, &[])?)?;
    lost.del()?;
    vm.expect_clean()
}

#[test]
fn gc_frees_nothing_of_another_network() -> Result<()> {
    let net = Fabric::builder().start()?;
    let vm = net.vm(0);
    let ours = vm.add_pod("ours")?;
    let mut other = vm.netconf();
    other["name"] = "other".into();
    let theirs = vm.add_pod_with("theirs", other)?;
    assert_succeeds(vm, &gc(vm, &[])?)?;
    theirs.check()?;
    // A container in the list of one network is not valid in another.
    let mut netconf: Value = vm.netconf();
    netconf["name"] = "other".into();
    netconf["cni.dev/valid-attachments"] = json!([{"containerID": ours.container_id(), "ifname": "eth0"}]);
    assert_succeeds(vm, &CniCall::new("GC")?.netconf(&netconf))?;
    vm.expect_clean()
}

#[test]
fn gc_without_a_list_is_refused_and_frees_nothing() -> Result<()> {
    let net = Fabric::builder().start()?;
    let vm = net.vm(0);
    let pod = vm.add_pod("a")?;
    for list in [None, Some(Value::Null)] {
        let mut netconf = vm.netconf();
        if let Some(list) = list {
            netconf["cni.dev/valid-attachments"] = list;
        }
        let error = vm.cni(&CniCall::new("GC")?.netconf(&netconf))?.error()?;
        assert_eq!(error.code, INVALID_CONFIG, "{error}");
        assert!(error.msg.contains("cni.dev/valid-attachments"), "{error}");
    }
    pod.check()?;
    pod.del()?;
    vm.expect_clean()
}

#[test]
fn gc_goes_on_past_what_it_cannot_free_and_names_all_of_it() -> Result<()> {
    let net = Fabric::builder().without_agents().start()?;
    let vm = net.vm(0);
    vm.start_agent_with(&[(Faults::VARIABLE, Step::Unlink.name())])?;
    let pods = [vm.add_pod("a")?, vm.add_pod("b")?];
    let error = vm.cni(&gc(vm, &[])?)?.error()?;
    assert_eq!(error.code, INTERNAL, "{error}");
    for pod in &pods {
        assert!(error.msg.contains(pod.container_id()) && error.details.contains("unlink"), "{error}");
    }
    assert_eq!(vm.status()?["pool"]["leased"], 2, "what could not be freed is kept");
    vm.restart_agent()?;
    assert_succeeds(vm, &gc(vm, &[])?)?;
    vm.expect_clean()
}

#[test]
fn gc_leaves_an_add_alone_that_is_under_way_or_came_later() -> Result<()> {
    let net = Fabric::builder().without_agents().start()?;
    let vm = net.vm(0);
    vm.start_agent_with(&[(Faults::SLOW_VARIABLE, "host-side:700")])?;
    thread::scope(|scope| -> Result<()> {
        let collecting = scope.spawn(|| -> Result<()> {
            // The ADD is in its slow step, and not in the runtime's list.
            thread::sleep(Duration::from_millis(300));
            assert_succeeds(vm, &gc(vm, &[])?)
        });
        let pod = vm.add_pod("a")?;
        collecting.join().expect("does not panic")?;
        pod.check()?;
        pod.del()
    })?;
    vm.expect_clean()
}
