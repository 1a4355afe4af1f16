//! The agent dies after any step of ADD or DEL. After its restart there is no leaked address, no duplicate and no half of a
//! pod.

use std::{net::Ipv4Addr, os::unix::process::ExitStatusExt};

use azure_cni_agent::steps::{Faults, Step};
use azure_cni_tests::{CniCall, Fabric, Namespace, Result, Vm, probe, query};

/// A single address: a leak shows at once.
fn one_address(attach: &str) -> Result<Fabric> {
    let builder = Fabric::builder().pool(1).without_agents().agent_toml("pool.cooldown_secs = 0");
    builder.agent_toml(&format!("datapath.attach = '{attach}'")).start()
}

/// How programs are attached, and how many attachments of a pod are pinned then.
const WAYS: [(&str, usize); 2] = [("auto", 0), ("tcx", 2)];

fn add(vm: &Vm, namespace: &Namespace) -> Result<CniCall> {
    let call = CniCall::new("ADD")?.attachment(namespace.name(), namespace.path(), "eth0");
    Ok(call.netconf(&vm.netconf()))
}

/// Makes a call during which the agent dies, and starts the agent again.
fn die_after(vm: &Vm, step: &str, call: &CniCall) -> Result<()> {
    vm.start_agent_with(&[(Faults::ABORT_VARIABLE, step)])?;
    vm.cni(call)?;
    let status = vm.await_agent_end()?;
    assert_eq!(status.signal(), Some(9), "{step}: the agent was to die, and ended with {status}");
    vm.start_agent()
}

/// Checks that a pod is complete: kernel, records and lease book hold one of each.
fn assert_one_whole_pod(vm: &Vm, address: Ipv4Addr, pins: usize, step: &str) -> Result<()> {
    let found = vm.leftovers()?;
    let counts = [found.links.len(), found.routes.len(), found.neighbours.len(), found.records.len()];
    assert_eq!(counts, [1; 4], "{step}: {found}");
    assert_eq!((found.pins.len(), found.leases.as_slice()), (pins, ["1".to_owned()].as_slice()), "{step}: {found}");
    assert_eq!(found.map_entries.iter().filter(|entry| entry.starts_with("ENDPOINTS")).count(), 1, "{step}: {found}");
    probe::ping(vm, address).map(drop)
}

fn address_in(result: &serde_json::Value) -> Ipv4Addr {
    let text = result["ips"][0]["address"].as_str().and_then(|text| text.strip_suffix("/32"));
    text.and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{result}"))
}

fn interfaces(namespace: &Namespace) -> Result<Vec<String>> {
    let links = query(namespace, "link show")?;
    Ok(links.iter().map(|link| link["ifname"].as_str().unwrap_or_default().to_owned()).collect())
}

#[test]
fn agent_that_dies_after_any_step_of_add_leaves_all_or_nothing() -> Result<()> {
    for (attach, pins) in WAYS {
        let net = one_address(attach)?;
        let vm = net.vm(0);
        for (number, step) in Step::ADD.iter().enumerate() {
            let namespace = Namespace::create(&format!("pod{number}"))?;
            let (call, name) = (add(vm, &namespace)?, step.name());
            die_after(vm, name, &call)?;
            if matches!(step, Step::Record | Step::Routes) {
                assert_one_whole_pod(vm, vm.pool()[0], pins, name)?;
            } else {
                vm.expect_clean()?;
                assert_eq!(interfaces(&namespace)?, ["lo"], "{name}");
            }
            // The runtime repeats the call, and gets the only address.
            let result = vm.cni(&call)?.succeeded(&call)?.json()?;
            assert_one_whole_pod(vm, address_in(&result), pins, name)?;
            let del = call.clone().with("CNI_COMMAND", "DEL");
            vm.cni(&del)?.succeeded(&del)?;
            vm.expect_clean()?;
            vm.stop_agent()?;
        }
    }
    Ok(())
}

#[test]
fn agent_that_dies_after_any_step_of_del_has_deleted_the_pod_when_it_is_back() -> Result<()> {
    for (attach, _) in WAYS {
        let net = one_address(attach)?;
        let vm = net.vm(0);
        for (number, step) in Step::DEL.iter().enumerate() {
            let namespace = Namespace::create(&format!("pod{number}"))?;
            let (call, name) = (add(vm, &namespace)?, step.name());
            vm.start_agent()?;
            let first = address_in(&vm.cni(&call)?.succeeded(&call)?.json()?);
            // The next pod with this address must not get this flow.
            probe::ping(vm, first)?;
            vm.stop_agent()?;

            let del = call.clone().with("CNI_COMMAND", "DEL");
            die_after(vm, name, &del)?;
            vm.expect_clean()?;
            assert_eq!(interfaces(&namespace)?, ["lo"], "{name}");
            // The runtime repeats the call. There is nothing to do, which is a success.
            vm.cni(&del)?.succeeded(&del)?;
            let next = vm.add_pod("next")?;
            next.check()?;
            probe::ping(vm, vm.pool()[0])?;
            next.del()?;
            vm.expect_clean()?;
            vm.stop_agent()?;
        }
    }
    Ok(())
}
