//! ADD fails at each of its steps: nothing of it is left, and the next ADD works as before.

use azure_cni_agent::steps::{Faults, Step};
use azure_cni_tests::{CniCall, Error, Fabric, Namespace, Result, Vm, query};

/// The plugin's own code for a fault of the agent.
const INTERNAL: u32 = 101;

/// A single address: a lease that is not released shows at the next ADD.
fn fail_at_every_step(attach: &str) -> Result<()> {
    let net = Fabric::builder()
        .pool(1)
        .without_agents()
        .agent_toml(&format!("datapath.attach = '{attach}'\npool.cooldown_secs = 0"))
        .start()?;
    let vm = net.vm(0);
    for step in Step::ADD {
        vm.start_agent_with(&[(Faults::VARIABLE, step.name())])?;
        // Twice: remains of the first would be in the way of the second.
        for _ in 0..2 {
            assert_add_fails(vm, step.name())?;
        }
        vm.stop_agent()?;
    }
    vm.start_agent()?;
    let pod = vm.add_pod("pod")?;
    pod.check()?;
    pod.del()?;
    vm.expect_clean()
}

fn assert_add_fails(vm: &Vm, step: &str) -> Result<()> {
    let namespace = Namespace::create("pod")?;
    let call = CniCall::new("ADD")?.attachment("pod", namespace.path(), "eth0").netconf(&vm.netconf());
    let error = vm.cni(&call)?.error()?;
    assert_eq!(error.code, INTERNAL, "{step}: {error}");
    assert!(error.msg.contains(step), "{step}: {error}");
    vm.expect_clean()?;
    let inside: Vec<_> = query(&namespace, "link show")?.iter().map(|link| link["ifname"].clone()).collect();
    assert_eq!(inside, ["lo"], "{step}");
    // The runtime cleans up after a failure. There is nothing to do, which is a success.
    let del = vm.cni(&call.with("CNI_COMMAND", "DEL"))?;
    assert!(del.status.success(), "{step}: {del:?}");
    vm.expect_clean()
}

#[test]
fn add_that_fails_after_any_step_leaves_nothing() -> Result<()> {
    fail_at_every_step("tcx")
}

#[test]
fn add_that_fails_after_any_step_leaves_nothing_without_tcx() -> Result<()> {
    fail_at_every_step("clsact")
}

#[test]
fn agent_does_not_start_with_a_fault_that_is_no_step() -> Result<()> {
    let net = Fabric::builder().without_agents().start()?;
    match net.vm(0).start_agent_with(&[(Faults::VARIABLE, "no-such-step")]) {
        Err(Error::Agent { log, .. }) if log.contains("no-such-step") => Ok(()),
        other => panic!("{other:?}"),
    }
}
