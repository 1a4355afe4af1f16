//! The agent does not run: DEL and GC succeed, are spooled to the disk, and are executed before the next ADD.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use azure_cni_agent::steps::{Faults, Step};
use azure_cni_api::boot_time::{BootTime, boot_id};
use azure_cni_api::spool::{Folder, SpooledCall, SpooledRequest};
use azure_cni_tests::{CniCall, CniOutput, Fabric, FabricBuilder, Pod, Result, Station, Vm};
use serde_json::json;

/// The CNI specification, section "Error".
const TRY_AGAIN: u32 = 11;
/// The agent reads the spool every 10 s.
const NEXT_ROUND: Duration = Duration::from_secs(25);

fn fabric() -> FabricBuilder {
    Fabric::builder().pool(4).agent_toml("pool.cooldown_secs = 0")
}

fn assert_silent_success(output: CniOutput) {
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
}

fn waiting(vm: &Vm) -> Vec<String> {
    let Ok(entries) = fs::read_dir(vm.spool_dir()) else { return vec![] };
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("a name").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn del_of(pod: &Pod, requested_at: BootTime) -> SpooledRequest {
    let attachment = serde_json::from_value(json!({
        "network": "azure", "containerId": pod.container_id(), "ifname": "eth0",
    }));
    let call = SpooledCall::Del { attachment: attachment.expect("an attachment") };
    SpooledRequest { boot_id: boot_id().expect("Linux"), requested_at, call }
}

#[test]
fn del_succeeds_at_once_and_is_carried_out_when_the_agent_starts() -> Result<()> {
    let net = fabric().start()?;
    let vm = net.vm(0);
    let (gone, staying, vanished) = (vm.add_pod("gone")?, vm.add_pod("staying")?, vm.add_pod("vanished")?);
    vm.kill_agent()?;
    gone.del()?;
    assert_silent_success(vm.cni(&vanished.lose_namespace()?)?);
    // Any number of times, and for an unknown container.
    gone.del()?;
    assert_silent_success(vm.cni(&gone.call("DEL")?.with("CNI_CONTAINERID", "never-added"))?);
    assert_eq!(waiting(vm).len(), 4);
    vm.start_agent()?;
    assert_eq!(waiting(vm), [""; 0]);
    assert_eq!(vm.status()?["pool"]["leased"], 1);
    staying.check()?;
    staying.del()?;
    vm.expect_clean()
}

#[test]
fn gc_succeeds_and_is_carried_out_when_the_agent_starts() -> Result<()> {
    let net = fabric().start()?;
    let vm = net.vm(0);
    let (kept, lost) = (vm.add_pod("kept")?, vm.add_pod("lost")?);
    vm.stop_agent()?;
    let mut netconf = vm.netconf();
    netconf["cni.dev/valid-attachments"] = json!([{"containerID": kept.container_id(), "ifname": "eth0"}]);
    assert_silent_success(vm.cni(&CniCall::new("GC")?.netconf(&netconf))?);
    vm.start_agent()?;
    kept.check()?;
    assert_eq!(vm.status()?["pool"]["leased"], 1);
    lost.del()?;
    kept.del()?;
    vm.expect_clean()
}

#[test]
fn add_after_a_del_that_waits_is_not_undone_by_it() -> Result<()> {
    let net = fabric().start()?;
    let vm = net.vm(0);
    let pod = vm.add_pod("a")?;
    vm.stop_agent()?;
    pod.del()?;
    vm.start_agent()?;
    // The same attachment in the same namespace: only the order shows that the pod is still wanted.
    let again = vm.cni(&pod.call("ADD")?)?;
    assert!(again.status.success(), "{again:?}");
    vm.restart_agent()?;
    let mut netconf = vm.netconf();
    netconf["prevResult"] = again.json()?;
    assert_silent_success(vm.cni(&pod.call("CHECK")?.netconf(&netconf))?);
    pod.del()?;
    vm.expect_clean()
}

#[test]
fn add_carries_out_first_what_was_written_while_the_agent_was_starting() -> Result<()> {
    let net = fabric().start()?;
    let vm = net.vm(0);
    let pod = vm.add_pod("a")?;
    let echo = azure_cni_tests::probe::EchoServer::start(vm)?;
    // The plugin found no agent, but then one started.
    Folder::open(&vm.spool_dir()).expect("a folder").put(&del_of(&pod, BootTime::now())).expect("it has room");
    let again = vm.cni(&pod.call("ADD")?)?;
    assert!(again.status.success(), "{again:?}");
    assert_eq!(waiting(vm), [""; 0]);
    assert!(vm.agent_log().contains("is executed"));
    azure_cni_tests::probe::tcp(&pod, echo.address())?;
    drop(echo);
    pod.del()?;
    vm.expect_clean()
}

#[test]
fn del_of_before_the_last_add_is_dropped_however_late_it_is_written() -> Result<()> {
    let net = fabric().start()?;
    let vm = net.vm(0);
    let before = BootTime::now();
    let pod = vm.add_pod("a")?;
    let folder = Folder::open(&vm.spool_dir()).expect("a folder");
    folder.put(&del_of(&pod, before)).expect("it has room");
    let of_another_boot = SpooledRequest { boot_id: "another".to_owned(), ..del_of(&pod, BootTime::now()) };
    folder.put(&of_another_boot).expect("it has room");
    vm.restart_agent()?;
    assert_eq!(waiting(vm), [""; 0]);
    pod.check()?;
    pod.del()?;
    vm.expect_clean()
}

#[test]
fn running_agent_finds_what_was_written_a_moment_too_late() -> Result<()> {
    let net = fabric().start()?;
    let vm = net.vm(0);
    let pod = vm.add_pod("a")?;
    Folder::open(&vm.spool_dir()).expect("a folder").put(&del_of(&pod, BootTime::now())).expect("it has room");
    vm.await_log("the request", NEXT_ROUND, |log| log.contains("is executed"))?;
    vm.expect_clean()
}

#[test]
fn request_that_fails_is_kept_and_one_that_is_malformed_is_set_aside() -> Result<()> {
    let net = fabric().start()?;
    let vm = net.vm(0);
    let pod = vm.add_pod("a")?;
    vm.stop_agent()?;
    pod.del()?;
    let kept = waiting(vm);
    fs::write(vm.spool_dir().join("00000000000000000001-x.json"), "{").expect("a folder");
    vm.start_agent_with(&[(Faults::VARIABLE, Step::Unlink.name())])?;
    let aside = "00000000000000000001-x.json.bad".to_owned();
    assert_eq!(waiting(vm), [vec![aside.clone()], kept.clone()].concat());
    let log = vm.agent_log();
    assert!(log.contains(&aside) && log.contains("set aside") && log.contains("tried again later"), "{log}");
    assert_eq!(vm.status()?["pool"]["leased"], 1);
    vm.restart_agent()?;
    assert_eq!(waiting(vm), [aside]);
    vm.expect_clean()
}

#[test]
fn del_of_a_chain_with_portmap_goes_through_without_an_agent() -> Result<()> {
    let net = fabric().start()?;
    let vm = net.vm(0);
    let mut netconf = vm.netconf();
    // The newest version that Debian's plugins speak.
    netconf["cniVersion"] = "1.0.0".into();
    let pod = vm.add_pod_with("a", netconf)?;
    let mappings = json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]);
    let keys = json!({"snat": true, "runtimeConfig": {"portMappings": mappings}});
    let rules_of_the_port = || -> Result<usize> {
        let rules = vm.namespace().command("nft")?.args(["list", "ruleset"]).output().expect("nft is installed");
        Ok(String::from_utf8_lossy(&rules.stdout).matches("8080").count())
    };
    pod.chain("ADD", "portmap", keys.clone())?;
    assert_ne!(rules_of_the_port()?, 0);
    vm.kill_agent()?;
    // As runtimes do: the last of the list first.
    pod.chain("DEL", "portmap", keys)?;
    pod.del()?;
    assert_eq!(rules_of_the_port()?, 0);
    vm.start_agent()?;
    vm.expect_clean()
}

#[test]
fn folder_is_the_one_of_the_configuration_then_of_the_variable_and_root_only() -> Result<()> {
    let net = fabric().without_agents().start()?;
    let vm = net.vm(0);
    let elsewhere = vm.dir().join("elsewhere");
    let mut netconf = vm.netconf();
    netconf["spoolDir"] = elsewhere.to_string_lossy().as_ref().into();
    let del = CniCall::new("DEL")?.attachment("a", "/run/netns/none".as_ref(), "eth0");
    assert_silent_success(vm.cni(&del.clone().netconf(&netconf))?);
    assert_eq!(fs::read_dir(&elsewhere).expect("it was made").count(), 1);
    assert_eq!(fs::metadata(&elsewhere).expect("it was made").permissions().mode() & 0o777, 0o700);

    netconf["spoolDir"] = serde_json::Value::Null;
    let by_variable = del.clone().netconf(&netconf).with("AZURE_CNI_SPOOL", &vm.dir().join("third").to_string_lossy());
    assert_silent_success(vm.cni(&by_variable)?);
    assert_eq!(fs::read_dir(vm.dir().join("third")).expect("it was made").count(), 1);

    // A request that cannot be spooled fails.
    fs::set_permissions(&elsewhere, fs::Permissions::from_mode(0o777)).expect("ours");
    netconf["spoolDir"] = elsewhere.to_string_lossy().as_ref().into();
    let error = vm.cni(&del.netconf(&netconf))?.error()?;
    assert_eq!(error.code, TRY_AGAIN, "{error}");
    assert!(error.details.contains("elsewhere") && error.details.contains("written by others"), "{error}");
    Ok(())
}
