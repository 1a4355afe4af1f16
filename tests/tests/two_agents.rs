//! One agent for each network namespace, and one program of each kind at each interface, whatever directories agents use.

use std::fs;

use aya::programs::{SchedClassifier, TcAttachType};
use azure_cni_tests::{
    Fabric, Pod, Result, Station, Vm,
    probe::{self, Connection, EchoServer},
};

#[test]
fn second_agent_in_a_namespace_is_refused_whatever_its_directories() -> Result<()> {
    let net = Fabric::builder().vms(2).start()?;
    let vm = net.vm(0);
    let pods = [vm.add_pod("a")?, vm.add_pod("b")?];
    let dir = net.sandbox().create_dir("second")?;
    let path = |name: &str| dir.join(name).to_string_lossy().into_owned();
    let (socket, state) = (path("agent.sock"), path("state"));
    let bpffs = vm.bpffs_dir().with_file_name("second").to_string_lossy().into_owned();
    let own = ["--socket", &socket, "--state-dir", &state, "--bpffs-dir", &bpffs];
    let said = vm.refused_start(&own)?;
    assert!(said.contains("another agent, process ") && said.contains("network namespace"), "{said}");
    assert!(!dir.join("state").exists() && !fs::exists(&bpffs).unwrap_or(true), "it made something");
    let echo = EchoServer::start(&pods[1])?;
    probe::tcp(&pods[0], echo.address())?;
    pods.iter().try_for_each(Pod::check)?;
    // Once the first one has ended, by force too, the next one starts.
    vm.kill_agent()?;
    vm.start_agent()?;
    pods.iter().try_for_each(Pod::del)?;
    net.vms().iter().try_for_each(Vm::expect_clean)
}

/// How many programs of this name run at an interface, by links and by filters.
fn count(vm: &Vm, interface: &str, program: &str) -> Result<usize> {
    let (words, direction) =
        if program.starts_with("from") { ("ingress", TcAttachType::Ingress) } else { ("egress", TcAttachType::Egress) };
    let by_links =
        vm.namespace().run(|| SchedClassifier::query_tcx(interface, direction)).expect("the interface is there").1;
    let by_links = by_links.iter().filter(|found| found.name_as_str() == Some(program)).count();
    let mut tc = vm.namespace().command("tc")?;
    let output = tc.args(["filter", "show", "dev", interface, words]).output().expect("tc is part of iproute2");
    Ok(by_links + String::from_utf8_lossy(&output.stdout).matches(&format!("handle 0xac1 {program} ")).count())
}

fn assert_one_of_each(vm: &Vm, pods: &[Pod]) -> Result<()> {
    let at_pods = pods.iter().flat_map(|pod| ["from_endpoint", "to_endpoint"].map(|name| (pod.host_interface(), name)));
    for (interface, program) in [("eth0", "from_wire"), ("eth0", "to_wire")].into_iter().chain(at_pods) {
        assert_eq!(count(vm, interface, program)?, 1, "{program} at {interface}");
    }
    Ok(())
}

#[test]
fn agent_with_another_bpffs_dir_takes_over_the_programs_that_are_there() -> Result<()> {
    for (attach, then) in [("tcx", "tcx"), ("tcx", "clsact"), ("clsact", "tcx"), ("auto", "auto")] {
        let net = Fabric::builder().vms(2).agent_toml(&format!("datapath.attach = '{attach}'")).start()?;
        let vm = net.vm(0);
        let pods = [vm.add_pod("a")?, vm.add_pod("b")?];
        let remote = net.vm(1).add_pod("c")?;
        let (echo, internet) = (EchoServer::start(&remote)?, EchoServer::start(net.internet())?);
        let mut open = Connection::open(&pods[0], echo.address())?;
        let moved = vm.bpffs_dir().with_file_name("moved");
        vm.kill_agent()?;
        vm.overlay_agent_toml(&format!("bpffs_dir = '{}'\ndatapath.attach = '{then}'", moved.display()))?;
        vm.start_agent()?;
        assert_one_of_each(vm, &pods)?;
        open.round_trip(format!("{attach} to {then}").as_bytes())?;
        assert_eq!(probe::tcp(&pods[0], internet.address())?.source_seen.ip(), vm.address());
        assert_eq!(vm.status()?["problems"], serde_json::json!([]));
        // And back: what it has left there is not in the way.
        vm.kill_agent()?;
        vm.overlay_agent_toml(&format!("bpffs_dir = '{}'", vm.bpffs_dir().display()))?;
        vm.start_agent()?;
        assert_one_of_each(vm, &pods)?;
        assert_eq!(probe::tcp(&pods[1], internet.address())?.source_seen.ip(), vm.address());
        pods.iter().chain([&remote]).try_for_each(Pod::del)?;
    }
    Ok(())
}
