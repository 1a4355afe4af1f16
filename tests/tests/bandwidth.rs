//! A pod with limits sends and receives at its rates on every path, in both families, and its neighbours are not held back.
//!
//! How near it comes to its rate is a measurement, which CI does not make: `cargo xtask test rate_is_measured --no-lint -- --run-ignored
//! only --nocapture`. docs/adr/0016 has its table.

use std::{
    thread,
    time::{Duration, Instant},
};

use azure_cni_common::bandwidth::Limit;
use azure_cni_tests::{
    Fabric,
    IpVersion::{self, V4, V6},
    Pod, Result, Station, Vm, configure,
    probe::{Bulk, DATAGRAM},
};
use serde_json::{Value, json};

const MBIT: u64 = 1_000_000;
const INVALID_CONFIG: u32 = 7;
const CHECK_FAILED: u32 = 100;

fn limited<'net>(vm: &'net Vm, name: &str, bandwidth: Value) -> Result<Pod<'net>> {
    let mut netconf = vm.netconf();
    netconf["runtimeConfig"] = json!({ "bandwidth": bandwidth });
    vm.add_pod_with(name, netconf)
}

fn network() -> Result<Fabric> {
    let services = "routing.service_prefixes = ['10.0.0.0/16', 'fd00:10::/64']";
    Fabric::builder().vms(2).dual_stack().internet_routes_pods6().agent_toml(services).start()
}

/// What a pod can exchange bytes with, and by which way of the data path.
fn paths<'net>(net: &'net Fabric, neighbour: &'net Pod, remote: &'net Pod) -> [(&'static str, &'net dyn Station); 4] {
    [
        ("pod here", neighbour),
        ("pod of another VM", remote),
        ("Internet", net.internet()),
        ("host, through the stack", net.vm(0)),
    ]
}

/// From the pod to the other, or back over a connection that the pod has opened.
fn transfer<'net>(pod: &'net Pod, other: &'net dyn Station, version: IpVersion, to_pod: bool) -> Bulk<'net> {
    Bulk { address: other.ip(version), reverse: to_pod, ..Bulk::new(pod, other) }
}

fn assert_holds(version: IpVersion) -> Result<()> {
    let rate = 20 * MBIT;
    let net = network()?;
    let limits = json!({"ingressRate": rate, "ingressBurst": rate / 5, "egressRate": rate, "egressBurst": rate / 5});
    let pod = limited(net.vm(0), "a", limits)?;
    let (neighbour, remote) = (net.vm(0).add_pod("b")?, net.vm(1).add_pod("c")?);
    for (what, other) in paths(&net, &neighbour, &remote) {
        for to_pod in [false, true] {
            let tcp = Bulk { secs: 2, warm_up_secs: 1, ..transfer(&pod, other, version, to_pod) };
            let share = tcp.run()? / rate as f64;
            assert!((0.5..1.3).contains(&share), "{what}, to the pod: {to_pod}: {share} of the rate");
        }
    }
    let datagrams = Bulk { datagrams: Some(3 * rate), warm_up_secs: 1, ..transfer(&pod, &neighbour, version, false) };
    let share = datagrams.run()? / rate as f64;
    assert!((0.5..1.3).contains(&share), "UDP: {share} of the rate");
    let unlimited = transfer(&neighbour, &remote, version, false).run()? / rate as f64;
    assert!(unlimited > 3.0, "a pod without limits: {unlimited} of the rate");
    Ok(())
}

#[test]
fn limited_pod_gets_its_rate_each_way_on_every_path_by_ipv4() -> Result<()> {
    assert_holds(V4)
}

#[test]
fn limited_pod_gets_its_rate_each_way_on_every_path_by_ipv6() -> Result<()> {
    assert_holds(V6)
}

/// Rates and bursts of the one pod that has limits.
fn terms(vm: &Vm) -> Result<Vec<[(u64, u64); 2]>> {
    let of = |limit: Limit| (limit.rate_bits, limit.burst_bits);
    Ok(vm.limits()?.into_values().map(|limits| [of(limits.ingress), of(limits.egress)]).collect())
}

fn await_terms(vm: &Vm, wanted: &[[(u64, u64); 2]]) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while terms(vm)? != wanted {
        assert!(Instant::now() < deadline, "limits are {:?}", vm.limits()?);
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

#[test]
fn limits_are_checked_put_back_and_kept_over_restart_and_rebuild_until_del() -> Result<()> {
    let net = Fabric::builder().dual_stack().agent_toml("reconcile.interval_secs = 1").start()?;
    let vm = net.vm(0);
    let pod = limited(vm, "a", json!({"ingressRate": 20 * MBIT, "ingressBurst": 4 * MBIT}))?;
    let other = vm.add_pod("b")?;
    let wanted = [[(20 * MBIT, 4 * MBIT), (0, 0)]];
    assert_eq!(terms(vm)?, wanted);
    pod.check()?;

    vm.forget_limits()?;
    let error = vm.cni(&pod.call("CHECK")?)?.error()?;
    assert_eq!(error.code, CHECK_FAILED, "{error}");
    assert!(error.msg.contains("bandwidth"), "{error}");
    other.check()?;
    await_terms(vm, &wanted)?;

    vm.kill_agent()?;
    vm.forget_limits()?;
    vm.start_agent()?;
    assert_eq!(terms(vm)?, wanted, "the agent is back");
    pod.check()?;

    let index = *vm.limits()?.keys().next().expect("one pod has limits");
    configure(vm.namespace(), &format!("link del {}", pod.host_interface()))?;
    let deadline = Instant::now() + Duration::from_secs(20);
    while vm.limits()?.contains_key(&index) || terms(vm)? != wanted {
        assert!(Instant::now() < deadline, "limits are {:?}", vm.limits()?);
        thread::sleep(Duration::from_millis(50));
    }

    pod.del()?;
    assert!(terms(vm)?.is_empty());
    other.del()?;
    vm.expect_clean()
}

#[test]
fn limits_that_cannot_be_meant_are_refused() -> Result<()> {
    let net = Fabric::builder().start()?;
    let vm = net.vm(0);
    for (bandwidth, named) in [
        (json!({"ingressRate": -1}), "ingressRate"),
        (json!({"egressRate": 10}), "egressRate"),
        (json!({"egressBurst": 80_000}), "egressBurst"),
    ] {
        let mut netconf = vm.netconf();
        netconf["runtimeConfig"] = json!({ "bandwidth": bandwidth });
        let pod = vm.add_pod("a")?;
        let error = vm.cni(&pod.call("ADD")?.netconf(&netconf))?.error()?;
        assert_eq!(error.code, INVALID_CONFIG, "{error}");
        assert!(error.msg.contains(named), "{error}");
        pod.del()?;
    }
    vm.expect_clean()
}

/// Bytes of IP packets that a byte of payload takes, in packets of 1500 bytes. TCP segments have the timestamp option.
fn overhead(version: IpVersion, is_tcp: bool) -> f64 {
    let header = if version == V4 { 20.0 } else { 40.0 };
    if is_tcp { 1500.0 / (1500.0 - header - 32.0) } else { (f64::from(DATAGRAM) + header + 8.0) / f64::from(DATAGRAM) }
}

/// Prints which part of its rate a limited pod gets on the wire, in per cent, once the first burst is spent.
#[test]
#[ignore = "a measurement of many minutes"]
fn rate_is_measured() -> Result<()> {
    let number = |name: &str, or: u64| std::env::var(name).map_or(or, |text| text.parse().expect("a number"));
    let secs = number("SECS", 10) as u8;
    let rates: Vec<u64> = match std::env::var("RATES") {
        Ok(text) => text.split(',').map(|rate| rate.parse::<u64>().expect("Mbit/s") * MBIT).collect(),
        Err(_) => vec![10 * MBIT, 100 * MBIT, 1000 * MBIT],
    };
    let version = if number("FAMILY", 4) == 6 { V6 } else { V4 };
    let burst_ms = std::env::var("BURST_MS").ok().map(|text| text.parse::<u64>().expect("ms"));
    let only = std::env::var("PATHS").unwrap_or_default();
    let net = network()?;
    let (neighbour, remote) = (net.vm(0).add_pod("b")?, net.vm(1).add_pod("c")?);
    println!("{:>10} {:<26} {:<8} {:>7} {:>7} {:>7}", "Mbit/s", "other end", "to pod", "TCP 1", "TCP 8", "UDP");
    for rate in rates {
        let burst = burst_ms.map_or(0, |ms| rate / 1000 * ms);
        let bandwidth = json!({"ingressRate": rate, "egressRate": rate, "ingressBurst": burst, "egressBurst": burst});
        let pod = limited(net.vm(0), &format!("a{}", rate / MBIT), bandwidth)?;
        for (what, other) in paths(&net, &neighbour, &remote) {
            if !what.contains(&only) {
                continue;
            }
            for to_pod in [false, true] {
                let base = Bulk { secs, warm_up_secs: 2, ..transfer(&pod, other, version, to_pod) };
                let cells = [(1, None), (8, None), (1, Some(rate + rate / 2))].map(|(streams, datagrams)| {
                    let bulk = Bulk { streams, datagrams, ..base };
                    match bulk.run() {
                        Ok(got) => format!("{:.1}", got * overhead(version, datagrams.is_none()) / rate as f64 * 100.0),
                        Err(_) => "failed".to_owned(),
                    }
                });
                let [one, eight, udp] = cells;
                println!("{:>10} {what:<26} {to_pod:<8} {one:>7} {eight:>7} {udp:>7}", rate / MBIT);
            }
        }
        pod.del()?;
    }
    Ok(())
}
