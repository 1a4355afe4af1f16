//! Calls: each has one line in the log, no step exceeds its limit, and none is half done when the caller leaves.

use std::time::{Duration, Instant};

use azure_cni_agent::steps::{Faults, Step};
use azure_cni_tests::{CniCall, Fabric, FabricBuilder, Namespace, Result, Vm, query};
use serde_json::Value;

/// The CNI specification, section "Error".
const TRY_AGAIN: u32 = 11;
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn fabric() -> FabricBuilder {
    Fabric::builder().pool(1).without_agents().agent_toml("pool.cooldown_secs = 0")
}

fn add(vm: &Vm, namespace: &Namespace) -> Result<CniCall> {
    Ok(CniCall::new("ADD")?.attachment(namespace.name(), namespace.path(), "eth0").netconf(&vm.netconf()))
}

#[test]
fn call_whose_caller_goes_away_comes_to_its_end() -> Result<()> {
    let net = fabric().start()?;
    let vm = net.vm(0);
    for step in Step::ADD {
        vm.start_agent_with(&[(Faults::SLOW_VARIABLE, &format!("{}:600", step.name()))])?;
        let namespace = Namespace::create("abandoned")?;
        let call = add(vm, &namespace)?;
        vm.cni_abandoned(&call, Duration::from_millis(250))?;
        // The runtime repeats the call, which waits for the end of the first one. The result is one complete pod.
        let result = vm.cni(&call)?;
        assert!(result.status.success(), "{}: {result:?}", step.name());
        let mut netconf = vm.netconf();
        netconf["prevResult"] = result.json()?;
        let check = vm.cni(&call.clone().with("CNI_COMMAND", "CHECK").netconf(&netconf))?;
        assert!(check.status.success(), "{}: {check:?}", step.name());
        assert!(vm.cni(&call.with("CNI_COMMAND", "DEL"))?.status.success());
        vm.expect_clean()?;
        vm.stop_agent()?;
    }
    Ok(())
}

#[test]
fn del_after_an_abandoned_add_waits_for_it_and_frees_everything() -> Result<()> {
    let net = fabric().start()?;
    let vm = net.vm(0);
    vm.start_agent_with(&[(Faults::SLOW_VARIABLE, "programs:600")])?;
    let namespace = Namespace::create("abandoned")?;
    let call = add(vm, &namespace)?;
    vm.cni_abandoned(&call, Duration::from_millis(250))?;
    assert!(vm.cni(&call.with("CNI_COMMAND", "DEL"))?.status.success());
    vm.expect_clean()
}

#[test]
fn agent_that_has_to_end_completes_the_calls_that_have_begun() -> Result<()> {
    let net = fabric().start()?;
    let vm = net.vm(0);
    vm.start_agent_with(&[(Faults::SLOW_VARIABLE, "maps:1000")])?;
    let namespace = Namespace::create("last")?;
    let call = add(vm, &namespace)?;
    let result = std::thread::scope(|scope| -> Result<_> {
        let adding = scope.spawn(|| vm.cni(&call));
        std::thread::sleep(Duration::from_millis(400));
        assert!(vm.stop_agent()?.success());
        adding.join().expect("does not panic")
    })?;
    assert!(result.status.success(), "{result:?}");
    vm.start_agent()?;
    let mut netconf = vm.netconf();
    netconf["prevResult"] = result.json()?;
    assert!(vm.cni(&call.clone().with("CNI_COMMAND", "CHECK").netconf(&netconf))?.status.success());
    assert!(vm.cni(&call.with("CNI_COMMAND", "DEL"))?.status.success());
    vm.expect_clean()
}

#[test]
fn step_that_takes_too_long_is_named_and_everything_is_undone() -> Result<()> {
    let net = fabric().start()?;
    let vm = net.vm(0);
    vm.start_agent_with(&[(Faults::SLOW_VARIABLE, "maps:60000")])?;
    let namespace = Namespace::create("slow")?;
    let limit = format!("longer than {} s", Step::Maps.limit().as_secs());
    let began = Instant::now();
    let error = vm.cni(&add(vm, &namespace)?)?.error()?;
    assert_eq!(error.code, TRY_AGAIN, "{error}");
    assert!(error.msg.contains("step maps") && error.msg.contains(&limit), "{error}");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    vm.expect_clean()?;
    let inside: Vec<_> = query(&namespace, "link show")?.iter().map(|link| link["ifname"].clone()).collect();
    assert_eq!(inside, ["lo"]);
    Ok(())
}

#[test]
fn every_log_line_of_a_call_has_its_trace_and_the_last_one_the_time_of_each_step() -> Result<()> {
    let net = fabric().start()?;
    let vm = net.vm(0);
    vm.start_agent()?;
    let namespace = Namespace::create("traced")?;
    let call = add(vm, &namespace)?.with("TRACEPARENT", &format!("00-{TRACE}-00f067aa0ba902b7-01"));
    assert!(vm.cni(&call)?.status.success());
    // A second line: the attachment exists already.
    assert!(vm.cni(&call)?.status.success());
    assert!(vm.cni(&call.with("CNI_COMMAND", "DEL"))?.status.success());
    let log = vm.agent_log();
    let traced: Vec<_> = log.lines().filter(|line| line.contains(TRACE)).collect();
    assert_eq!(traced.len(), 4, "{log}");
    let line = |words: &[&str]| {
        let found = traced.iter().find(|line| words.iter().all(|word| line.contains(word)));
        found.unwrap_or_else(|| panic!("{words:?} in none of {traced:#?}"))
    };
    line(&["ADD", "stands already"]);
    let named = |steps: &[Step]| steps.iter().map(|step| format!("{}=", step.name())).collect::<Vec<_>>();
    for (command, steps) in [("ADD", named(&Step::ADD)), ("DEL", named(&Step::DEL))] {
        let words: Vec<_> =
            steps.iter().map(String::as_str).chain([command, "traced", "done", "duration_ms="]).collect();
        line(&words);
    }
    Ok(())
}

#[test]
fn operators_command_shows_how_long_each_step_takes() -> Result<()> {
    let net = fabric().start()?;
    let vm = net.vm(0);
    vm.start_agent_with(&[(Faults::SLOW_VARIABLE, "veth:50")])?;
    for _ in 0..3 {
        vm.add_pod("a")?.del()?;
    }
    let times: Vec<Value> = serde_json::from_str(&vm.ctl(&["steps", "--json"])?).expect("JSON");
    let of = |command: &str, step: &str| {
        let found = times.iter().find(|time| time["command"] == command && time["step"] == step);
        found.unwrap_or_else(|| panic!("{command} {step} in none of {times:#?}"))
    };
    for (command, step) in Step::ADD.map(|step| ("ADD", step)).into_iter().chain(Step::DEL.map(|step| ("DEL", step))) {
        assert_eq!(of(command, step.name())["count"], 3, "{command} {}", step.name());
    }
    assert_eq!(of("DEL", "total")["count"], 3);
    let whole = of("ADD", "total");
    assert!(whole["p50Us"].as_u64() >= Some(50_000) && whole["maxUs"].as_u64() >= whole["p50Us"].as_u64(), "{whole}");
    assert!(of("ADD", "veth")["p50Us"].as_u64() >= Some(49_000));
    let shown = vm.ctl(&["steps"])?;
    assert!(shown.contains("P99 MS") && shown.contains("pod-side"), "{shown}");
    Ok(())
}
