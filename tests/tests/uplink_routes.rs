//! The VM's routes decide where pods' packets to the Internet go, even if the data path needs no route look-up for them.

use std::{net::IpAddr, time::Duration};

use azure_cni_tests::{
    Fabric, GATEWAY6, Result, Station, Vm, configure,
    probe::{self, Connection, EchoServer},
};

const FOLLOWING: Duration = Duration::from_secs(5);

/// A router that accepts no frames.
const NOBODY: &str = "via 10.240.0.99 dev eth0 onlink";
const NOBODYS_MAC: &str = "neigh replace 10.240.0.99 lladdr 02:00:00:00:00:99 dev eth0 nud permanent";
const FORGET_NOBODY: &str = "neigh del 10.240.0.99 dev eth0";

/// Waits until the agent has observed the `times`th change; the first is at its start.
fn await_change(vm: &Vm, times: usize) -> Result<()> {
    let said = "the way to the Internet has changed";
    vm.await_log(said, FOLLOWING, |log| log.matches(said).count() >= times)
}

#[test]
fn route_that_leads_elsewhere_is_obeyed_and_so_is_its_removal() -> Result<()> {
    let net = Fabric::builder().agent_toml("routing.service_prefixes = []").start()?;
    let vm = net.vm(0);
    let pod = vm.add_pod("pod")?;
    let echo = EchoServer::start(net.internet())?;
    await_change(vm, 1)?;
    let mut connection = Connection::open(&pod, echo.address())?;
    connection.round_trip(b"before")?;

    let elsewhere = format!("{}/32 {NOBODY}", net.internet().address());
    configure(vm.namespace(), &format!("{NOBODYS_MAC}\nroute add {elsewhere}"))?;
    await_change(vm, 2)?;
    assert!(probe::udp(&pod, echo.address()).is_err(), "the VM's route leads to nobody");

    configure(vm.namespace(), &format!("route del {elsewhere}\n{FORGET_NOBODY}"))?;
    await_change(vm, 3)?;
    connection.round_trip(b"after")?;
    probe::udp(&pod, echo.address())?;
    pod.del()?;
    vm.expect_clean()
}

#[test]
fn policy_rules_are_left_to_the_kernel() -> Result<()> {
    let net = Fabric::builder().agent_toml("routing.service_prefixes = []").start()?;
    let vm = net.vm(0);
    let pod = vm.add_pod("pod")?;
    let echo = EchoServer::start(net.internet())?;
    probe::udp(&pod, echo.address())?;

    let rule = format!("to {}/32 table 100", net.internet().address());
    configure(vm.namespace(), &format!("{NOBODYS_MAC}\nroute add default {NOBODY} table 100\nrule add {rule}"))?;
    await_change(vm, 2)?;
    assert!(probe::udp(&pod, echo.address()).is_err(), "the rule's table leads to nobody");

    configure(vm.namespace(), &format!("rule del {rule}\nroute flush table 100\n{FORGET_NOBODY}"))?;
    await_change(vm, 3)?;
    probe::udp(&pod, echo.address())?;
    pod.del()?;
    vm.expect_clean()
}

#[test]
fn router_of_each_family_is_named_where_all_routes_agree() -> Result<()> {
    let overlay = "routing.service_prefixes = []\nsnat.ipv6 = true";
    let net = Fabric::builder().dual_stack().agent_toml(overlay).start()?;
    let vm = net.vm(0);
    let pod = vm.add_pod("pod")?;
    for (echo, seen) in [
        (EchoServer::start(net.internet())?, IpAddr::from(vm.address())),
        (
            EchoServer::start_on(net.internet(), (net.internet().address6().expect("dual-stack"), 7007))?,
            IpAddr::from(vm.address6().expect("dual-stack")),
        ),
    ] {
        assert_eq!(probe::tcp(&pod, echo.address())?.source_seen.ip(), seen);
    }
    let log = vm.agent_log();
    let named = format!("router=\"10.240.0.1\" router6=\"{GATEWAY6}\"");
    assert!(log.contains(&named), "{log}");
    pod.del()?;
    vm.expect_clean()
}
