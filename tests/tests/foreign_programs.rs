//! Looking at programs writes nothing, and a program that another owner has put into the place of ours stays: it is named,
//! and the pod is repaired once it is gone.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use aya::programs::TcAttachType::{Egress, Ingress};
use azure_cni_agent::steps::{Faults, Step};
use azure_cni_tests::{CniCall, FOREIGN_PROGRAM, Fabric, FabricBuilder, Namespace, Pod, Result, Station, Vm};

/// Far above two rounds of the reconciler.
const LIMIT: Duration = Duration::from_secs(20);
const CHECK_FAILED: u32 = 100;
const INTERNAL: u32 = 101;
const LIMITED: u32 = 51;

fn fabric() -> FabricBuilder {
    Fabric::builder().agent_toml("datapath.attach = 'clsact'\nreconcile.interval_secs = 1\npool.cooldown_secs = 0")
}

fn tc(vm: &Vm, arguments: &str) -> Result<String> {
    let mut command = vm.namespace().command("tc")?;
    let output = command.args(arguments.split(' ')).output().expect("tc is part of iproute2");
    assert!(output.status.success(), "tc {arguments}: {output:?}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What the kernel tells listeners about qdiscs and filters of a VM.
struct TcMonitor {
    process: Child,
    lines: Receiver<String>,
}

impl TcMonitor {
    fn start(vm: &Vm) -> Result<Self> {
        let mut command = vm.namespace().command("tc")?;
        let mut process = command.args(["monitor"]).stdout(Stdio::piped()).spawn().expect("tc is part of iproute2");
        let output = BufReader::new(process.stdout.take().expect("piped"));
        let (sender, lines) = channel();
        thread::spawn(move || output.lines().map_while(|line| line.ok()).try_for_each(|line| sender.send(line)));
        let monitor = Self { process, lines };
        let deadline = Instant::now() + LIMIT;
        // It listens once it hears of something.
        while monitor.lines.recv_timeout(Duration::from_millis(50)).is_err() {
            assert!(Instant::now() < deadline, "nothing is heard");
            monitor.make_a_sound(vm)?;
        }
        monitor.until_the_next_sound(vm)?;
        Ok(monitor)
    }

    /// A change that is no program's.
    fn make_a_sound(&self, vm: &Vm) -> Result<()> {
        tc(vm, "qdisc replace dev lo root pfifo limit 4711")?;
        tc(vm, "qdisc del dev lo root").map(drop)
    }

    /// What was heard since the last call, up to a sound that this makes.
    fn until_the_next_sound(&self, vm: &Vm) -> Result<Vec<String>> {
        tc(vm, "qdisc replace dev lo root pfifo limit 4712")?;
        tc(vm, "qdisc del dev lo root")?;
        let mut heard = Vec::new();
        loop {
            let line = self.lines.recv_timeout(LIMIT).expect("the kernel reports every change");
            if line.contains("limit 4712p") && !line.starts_with("deleted") {
                return Ok(heard);
            }
            if !line.contains("dev lo") && !line.trim().is_empty() {
                heard.push(line);
            }
        }
    }
}

impl Drop for TcMonitor {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn looking_at_a_healthy_pod_changes_no_filter() -> Result<()> {
    let net = fabric().start()?;
    let vm = net.vm(0);
    let pod = vm.add_pod("a")?;
    let monitor = TcMonitor::start(vm)?;
    let programs = |what: &str| tc(vm, &format!("filter show dev {} {what}", pod.host_interface()));
    let before = [programs("ingress")?, programs("egress")?];
    for _ in 0..3 {
        pod.check()?;
        let status = vm.cni(&CniCall::new("STATUS")?.netconf(&vm.netconf()))?;
        assert!(status.status.success(), "{status:?}");
        assert_eq!(vm.status()?["problems"], serde_json::json!([]));
        // The same ADD again, of an attachment that stands.
        assert_eq!(vm.cni(&pod.call("ADD")?)?.json()?, *pod.result());
        // A round of the reconciler.
        thread::sleep(Duration::from_millis(1200));
    }
    assert_eq!(monitor.until_the_next_sound(vm)?, [""; 0], "a qdisc or filter has changed");
    assert_eq!([programs("ingress")?, programs("egress")?], before);
    // The test would hear of a change.
    vm.plant_program(pod.host_interface(), Ingress)?;
    let heard = monitor.until_the_next_sound(vm)?;
    assert!(heard.iter().any(|line| line.contains("0xac1")), "{heard:?}");
    pod.del()?;
    vm.expect_clean()
}

/// The program that holds the place of ours.
fn holder(vm: &Vm, pod: &Pod, direction: &str) -> Result<String> {
    tc(vm, &format!("filter get dev {} {direction} pref 1 handle 0xac1 protocol all bpf", pod.host_interface()))
}

#[test]
fn foreign_program_in_our_place_is_named_and_stays_until_it_is_removed() -> Result<()> {
    let net = fabric().start()?;
    let vm = net.vm(0);
    let (pod, neighbour) = (vm.add_pod("a")?, vm.add_pod("b")?);
    for (direction, hook, words) in [(Ingress, "from_endpoint", "ingress"), (Egress, "to_endpoint", "egress")] {
        let interface = pod.host_interface();
        let id = vm.plant_program(interface, direction)?;
        let named = format!("program {id} ({FOREIGN_PROGRAM})");
        let names_it = |text: &str| text.contains(&named) && text.contains(interface) && text.contains(hook);

        let error = vm.cni(&pod.call("CHECK")?)?.error()?;
        assert_eq!(error.code, CHECK_FAILED, "{error}");
        assert!(names_it(&error.msg), "{error}");
        let found = |status: &serde_json::Value| status["problems"][0].as_str().is_some_and(names_it);
        vm.await_status("a problem that names the program", found)?;
        // Other pods can be added.
        let status = vm.cni(&CniCall::new("STATUS")?.netconf(&vm.netconf()))?;
        assert!(status.status.success(), "{status:?}");
        // Nor does an agent that starts take it for its own.
        vm.restart_agent()?;
        vm.await_status("still a problem", found)?;
        thread::sleep(Duration::from_millis(1500));
        assert!(holder(vm, &pod, words)?.contains(&format!("id {id} ")), "{}", holder(vm, &pod, words)?);
        neighbour.check()?;

        tc(vm, &format!("filter del dev {interface} {words} pref 1 handle 0xac1 bpf"))?;
        let repaired = |status: &serde_json::Value| {
            status["problems"] == serde_json::json!([]) && status["repairs"]["program-repaired"] == 1
        };
        vm.await_status("repaired", repaired)?;
        pod.check()?;
    }
    [&pod, &neighbour].into_iter().try_for_each(Pod::del)?;
    vm.expect_clean()
}

#[test]
fn filter_of_another_kind_at_our_priority_is_named_and_stays_until_it_is_removed() -> Result<()> {
    let net = fabric().start()?;
    let vm = net.vm(0);
    let pod = vm.add_pod("a")?;
    for (words, hook) in [("ingress", "from_endpoint"), ("egress", "to_endpoint")] {
        let interface = pod.host_interface();
        tc(vm, &format!("filter del dev {interface} {words}"))?;
        tc(vm, &format!("filter add dev {interface} {words} pref 1 protocol ip u32 match u32 0 0 flowid 1:1"))?;
        let names_it = |text: &str| text.contains("kind u32") && text.contains(interface) && text.contains(hook);
        let error = vm.cni(&pod.call("CHECK")?)?.error()?;
        assert!(error.code == CHECK_FAILED && names_it(&error.msg), "{error}");
        let found = |status: &serde_json::Value| status["problems"][0].as_str().is_some_and(names_it);
        vm.await_status("a problem that names the filter", found)?;
        vm.restart_agent()?;
        vm.await_status("still a problem", found)?;
        assert!(tc(vm, &format!("filter show dev {interface} {words}"))?.contains("u32"), "it stays");
        tc(vm, &format!("filter del dev {interface} {words} pref 1"))?;
        vm.await_status("repaired", |status| status["problems"] == serde_json::json!([]))?;
        pod.check()?;
    }
    pod.del()?;
    vm.expect_clean()
}

#[test]
fn add_that_meets_a_foreign_program_is_refused_and_leaves_nothing() -> Result<()> {
    let net = fabric().without_agents().start()?;
    let vm = net.vm(0);
    vm.start_agent_with(&[(Faults::SLOW_VARIABLE, &format!("{}:3000", Step::HostSide.name()))])?;
    let namespace = Namespace::create("pod")?;
    let call = CniCall::new("ADD")?.attachment("pod", namespace.path(), "eth0").netconf(&vm.netconf());
    let (error, interface, id) = thread::scope(|scope| {
        let add = scope.spawn(|| vm.cni(&call).and_then(|output| output.error()));
        let interface = await_host_interface(vm)?;
        let id = vm.plant_program(&interface, Egress)?;
        Ok::<_, azure_cni_tests::Error>((add.join().expect("it does not panic")?, interface, id))
    })?;
    assert_eq!(error.code, INTERNAL, "{error}");
    for word in [&*interface, "to_endpoint", "0xac1", &format!("program {id} ({FOREIGN_PROGRAM})")] {
        assert!(error.msg.contains(word), "{word}: {error}");
    }
    vm.expect_clean()?;
    // A pod that nothing interferes with is added.
    vm.restart_agent()?;
    let pod = vm.add_pod("pod")?;
    pod.check()?;
    pod.del()?;
    vm.expect_clean()
}

fn await_host_interface(vm: &Vm) -> Result<String> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let links = azure_cni_tests::query(vm.namespace(), "link show")?;
        let names = links.iter().filter_map(|link| link["ifname"].as_str());
        if let Some(name) = names.into_iter().find(|name| name.starts_with("azv")) {
            return Ok(name.to_owned());
        }
        assert!(Instant::now() < deadline, "no host interface within {LIMIT:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn foreign_program_at_the_uplink_makes_the_node_unfit_and_an_agent_does_not_start_over_it() -> Result<()> {
    let net = fabric().start()?;
    let vm = net.vm(0);
    let id = vm.plant_program("eth0", Ingress)?;
    let named = format!("program {id} ({FOREIGN_PROGRAM})");
    let error = vm.cni(&CniCall::new("STATUS")?.netconf(&vm.netconf()))?.error()?;
    assert_eq!(error.code, LIMITED, "{error}");
    for word in [&named, "from_wire", "eth0"] {
        assert!(error.msg.contains(word), "{word}: {error}");
    }
    vm.stop_agent()?;
    let said = vm.refused_start(&[])?;
    assert!(said.contains(&named), "{said}");
    tc(vm, "filter del dev eth0 ingress pref 1 handle 0xac1 bpf")?;
    vm.start_agent()?;
    let status = vm.cni(&CniCall::new("STATUS")?.netconf(&vm.netconf()))?;
    assert!(status.status.success(), "{status:?}");
    Ok(())
}

#[test]
fn agent_that_attaches_in_another_way_leaves_no_program_of_the_way_before() -> Result<()> {
    let net = fabric().start()?;
    let vm = net.vm(0);
    let pod = vm.add_pod("a")?;
    let filters = || tc(vm, &format!("filter show dev {} ingress", pod.host_interface()));
    let links = || vm.pins("links").read_dir().expect("the agent made it").count();
    assert_eq!((filters()?.contains("0xac1"), links()), (true, 0));
    vm.overlay_agent_toml("datapath.attach = 'tcx'")?;
    vm.restart_agent()?;
    pod.check()?;
    assert_eq!((filters()?.contains("0xac1"), links()), (false, 4));
    vm.overlay_agent_toml("datapath.attach = 'clsact'")?;
    vm.restart_agent()?;
    pod.check()?;
    assert_eq!((filters()?.contains("0xac1"), links()), (true, 0));
    pod.del()?;
    vm.expect_clean()
}
