//! CHECK finds and names every kind of damage, and finds nothing in an intact pod.

use std::fs;

use azure_cni_tests::{CniError, Fabric, Pod, Result, Station, Vm, configure, nft};
use serde_json::json;

const UNKNOWN_CONTAINER: u32 = 3;
const INVALID_CONFIG: u32 = 7;
/// The plugin's own.
const CHECK_FAILED: u32 = 100;
/// Keeps the agent from repairing the damage before CHECK finds it.
const UNTOUCHED: &str = "reconcile.interval_secs = 3600";

/// Damage to a pod that the agent does not see happen, and a word that the report must have.
type Damage = (&'static str, fn(&Vm, &Pod) -> Result<()>, &'static str);

fn inside(pod: &Pod, batch: &str) -> Result<()> {
    configure(pod.namespace(), batch)
}

fn on_the_host(vm: &Vm, batch: String) -> Result<()> {
    configure(vm.namespace(), &batch)
}

const DAMAGES: &[Damage] = &[
    ("address removed", |_, pod| inside(pod, &format!("addr del {}/32 dev eth0", pod.address())), "in the pod lacks"),
    ("default route removed", |_, pod| inside(pod, "route del default"), "route to 0.0.0.0/0"),
    (
        "gateway's route removed",
        |_, pod| inside(pod, "route del default\nroute del 169.254.1.1"),
        "route to 169.254.1.1",
    ),
    ("gateway's neighbour removed", |_, pod| inside(pod, "neigh del 169.254.1.1 dev eth0"), "neighbour"),
    ("pod's interface down", |_, pod| inside(pod, "link set eth0 down"), "down"),
    ("MAC changed", |_, pod| inside(pod, "link set eth0 address 02:00:00:00:00:01"), "MAC"),
    ("pod's interface removed", |_, pod| inside(pod, "link del eth0"), "missing in the pod"),
    ("host interface down", |vm, pod| on_the_host(vm, format!("link set {} down", pod.host_interface())), "down"),
    (
        "host route removed",
        |vm, pod| on_the_host(vm, format!("route del {}/32", pod.address())),
        "host lacks the route",
    ),
    (
        "host neighbour removed",
        |vm, pod| on_the_host(vm, format!("neigh del {} dev {}", pod.address(), pod.host_interface())),
        "host lacks the neighbour",
    ),
    ("egress program detached", |vm, pod| detach(vm, pod, "from_endpoint"), "from_endpoint"),
    ("ingress program detached", |vm, pod| detach(vm, pod, "to_endpoint"), "to_endpoint"),
    ("endpoint forgotten", |vm, pod| vm.forget_in_data_path(pod.address()), "data path"),
];

/// Only the pin holds a link once its maker has closed it.
fn detach(vm: &Vm, pod: &Pod, program: &str) -> Result<()> {
    let pin = vm.pins("links").join(format!("{}-{program}", pod.host_interface()));
    fs::remove_file(&pin).unwrap_or_else(|error| panic!("{}: {error}", pin.display()));
    Ok(())
}

fn finding(vm: &Vm, pod: &Pod) -> Result<CniError> {
    vm.cni(&pod.call("CHECK")?)?.error()
}

#[test]
fn every_kind_of_damage_is_found_and_named_and_a_del_still_removes_everything() -> Result<()> {
    let net = Fabric::builder().agent_toml("datapath.attach = 'tcx'").agent_toml(UNTOUCHED).start()?;
    let vm = net.vm(0);
    for (number, (what, happens, word)) in DAMAGES.iter().enumerate() {
        let pod = vm.add_pod(&format!("pod{number}"))?;
        pod.check()?;
        happens(vm, &pod)?;
        let error = finding(vm, &pod)?;
        assert_eq!(error.code, CHECK_FAILED, "{what}: {error}");
        assert!(error.msg.contains(word), "{what}: {error}");
        pod.del()?;
        vm.expect_clean()?;
    }
    Ok(())
}

#[test]
fn removed_filter_is_found_without_tcx_too() -> Result<()> {
    let net = Fabric::builder().agent_toml("datapath.attach = 'clsact'").agent_toml(UNTOUCHED).start()?;
    let vm = net.vm(0);
    let pod = vm.add_pod("a")?;
    pod.check()?;
    tc(vm, &format!("filter del dev {} ingress", pod.host_interface()))?;
    let error = finding(vm, &pod)?;
    assert_eq!(error.code, CHECK_FAILED, "{error}");
    assert!(error.msg.contains("from_endpoint") && !error.msg.contains("to_endpoint"), "{error}");
    // CHECK must not repair: the next answer is the same.
    assert_eq!(finding(vm, &pod)?, error);
    tc(vm, &format!("qdisc del dev {} clsact", pod.host_interface()))?;
    let error = finding(vm, &pod)?;
    assert!(error.msg.contains("from_endpoint") && error.msg.contains("to_endpoint"), "{error}");
    pod.del()?;
    vm.expect_clean()
}

fn tc(vm: &Vm, arguments: &str) -> Result<()> {
    let mut command = vm.namespace().command("tc")?;
    let status = command.args(arguments.split(' ')).status().expect("tc is part of iproute2");
    assert!(status.success(), "tc {arguments}");
    Ok(())
}

#[test]
fn result_that_is_not_the_pods_own_is_refused() -> Result<()> {
    let net = Fabric::builder().start()?;
    let vm = net.vm(0);
    let (pod, other) = (vm.add_pod("a")?, vm.add_pod("b")?);
    let without_result = pod.call("CHECK")?.netconf(&vm.netconf());
    assert_eq!(vm.cni(&without_result)?.error()?.code, INVALID_CONFIG);

    let mut netconf = vm.netconf();
    netconf["prevResult"] = other.result().clone();
    let error = vm.cni(&pod.call("CHECK")?.netconf(&netconf))?.error()?;
    assert_eq!(error.code, CHECK_FAILED);
    assert!(error.msg.contains("prevResult"), "{error}");

    let elsewhere = pod.call("CHECK")?.with("CNI_NETNS", &other.namespace().path().to_string_lossy());
    assert_eq!(vm.cni(&elsewhere)?.error()?.code, CHECK_FAILED);
    let unknown = pod.call("CHECK")?.with("CNI_CONTAINERID", "nobody");
    assert_eq!(vm.cni(&unknown)?.error()?.code, UNKNOWN_CONTAINER);
    [&pod, &other].into_iter().try_for_each(Pod::del)?;
    vm.expect_clean()
}

#[test]
fn what_a_later_plugin_of_the_chain_added_is_no_damage() -> Result<()> {
    let net = Fabric::builder().start()?;
    let vm = net.vm(0);
    let pod = vm.add_pod("a")?;
    inside(
        &pod,
        "link add extra type veth peer name other\naddr add 192.0.2.1/32 dev eth0\nroute add 192.0.2.2 dev eth0\n",
    )?;
    nft(vm.namespace(), "add table ip portmap\n")?;
    let mut result = pod.result().clone();
    result["interfaces"].as_array_mut().expect("a list").push(json!({"name": "extra", "mac": "02:00:00:00:00:01"}));
    let mut netconf = vm.netconf();
    netconf["prevResult"] = result;
    let check = vm.cni(&pod.call("CHECK")?.netconf(&netconf))?;
    assert!(check.status.success() && check.stdout.is_empty(), "{check:?}");
    pod.del()?;
    vm.expect_clean()
}
