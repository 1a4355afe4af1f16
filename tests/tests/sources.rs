//! The sources of the pool: each source, its changes, its faults, and its absence.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use azure_cni_tests::{
    Fabric, FabricBuilder, PEERED_PREFIX, Pod, Result, Station, Vm,
    platform::{Fault, Listing, Service},
    probe::{self, Arrivals, EchoServer},
};
use serde_json::Value;

const TRY_AGAIN: u32 = 11;

/// Agents that ask every second, and wait a second for an answer.
fn eager() -> FabricBuilder {
    Fabric::builder().agent_toml(
        "pool.cooldown_secs = 0\npool.refresh_min_secs = 1\npool.refresh_max_secs = 1\n\
         pool.connect_timeout_secs = 1\npool.request_timeout_secs = 1",
    )
}

/// The three sources that list addresses, on a network of one VM with a pool of this size.
fn each_source(pool: u8) -> [(&'static str, FabricBuilder); 3] {
    let served = |service: Service| (service.source(), eager().pool(pool).service(service));
    [served(Service::WireServer), served(Service::Imds), ("file", eager().pool(pool))]
}

/// Changes what the source lists for a VM. Files are written in the form of instance metadata; the fabric wrote XML.
fn change(net: &Fabric, vm: &Vm, source: &str, listing: &mut Listing, change: impl Fn(&mut Listing)) {
    change(listing);
    match source {
        "file" => write(vm, &listing.imds().to_string()),
        _ => net.lister().change(vm, change),
    }
}

fn write(vm: &Vm, pool: &str) {
    let path = vm.dir().join("pool.xml");
    fs::write(&path, pool).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

fn refused(vm: &Vm, name: &str) -> Result<String> {
    let error = match vm.add_pod(name) {
        Ok(pod) => panic!("{name} got {}", pod.address()),
        Err(error) => error,
    };
    let Some(refusal) = error.refusal() else { return Err(error) };
    assert_eq!(refusal.code, TRY_AGAIN, "{refusal}");
    Ok(refusal.msg.clone())
}

fn is_stale(status: &Value) -> bool {
    status["source"]["stale"] == true && !status["problems"].as_array().expect("a list").is_empty()
}

fn is_fresh(status: &Value) -> bool {
    status["source"]["stale"] == false && status["source"]["lastError"].is_null()
}

#[test]
fn each_source_gives_pods_addresses_and_the_vm_reaches_it_beside_their_traffic() -> Result<()> {
    for (source, builder) in each_source(4) {
        let net = builder.without_agents().start()?;
        let vm = net.vm(0);
        // No proxy listens there: an agent that heeded these variables would get no answer.
        let proxies = ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"];
        vm.start_agent_with(&proxies.map(|variable| (variable, "http://127.0.0.1:9")))?;
        let (a, b) = (vm.add_pod("a")?, vm.add_pod("b")?);
        assert!(vm.pool().contains(&a.address()) && vm.pool().contains(&b.address()), "{source}");
        let echo = EchoServer::start(net.internet())?;
        assert_eq!(probe::tcp(&a, echo.address())?.source_seen.ip(), vm.address());
        // The agent's requests are traffic of the host. They still work with programs and flows in place.
        let attempts = |status: &Value| status["source"]["attempts"].as_u64().unwrap_or(0);
        let before = attempts(&vm.status()?);
        let status = vm.await_status("asked again", |status| attempts(status) > before + 1)?;
        assert_eq!(status["source"]["kind"], source);
        assert!(is_fresh(&status) && status["source"]["confirmedSecsAgo"].as_u64().is_some_and(|secs| secs < 15));
        assert_eq!((vm.dropped()?, &status["problems"]), ([].into(), &Value::Array(vec![])));
        drop(echo);
        [a, b].iter().try_for_each(Pod::del)?;
        vm.expect_clean()?;
    }
    Ok(())
}

/// That a machine which is none of the platform's takes the file is a test of the agent's own: here the machine may be one.
#[test]
fn agent_that_is_told_no_source_finds_the_service_that_answers_and_stays_with_it() -> Result<()> {
    for service in [Service::WireServer, Service::Imds] {
        let net = eager().service(service).agent_toml("pool.source = 'auto'").start()?;
        let vm = net.vm(0);
        let pod = vm.add_pod("a")?;
        assert!(vm.pool().contains(&pod.address()), "{service:?}");
        assert_eq!(vm.status()?["source"]["kind"], service.source());
        net.lister().down();
        vm.restart_agent()?;
        let status = vm.await_status("known from before", is_stale)?;
        assert_eq!(status["source"]["kind"], service.source());
        pod.check()?;
        pod.del()?;
        vm.expect_clean()?;
    }
    Ok(())
}

#[test]
fn dual_stack_pool_of_instance_metadata_gives_both_families() -> Result<()> {
    let net = eager().dual_stack().service(Service::Imds).pool(2).start()?;
    let vm = net.vm(0);
    let pod = vm.add_pod("a")?;
    assert!(vm.pool6().contains(&pod.address6().expect("the pool has IPv6")));
    pod.check()?;
    pod.del()?;
    vm.expect_clean()
}

#[test]
fn address_that_is_listed_later_becomes_usable() -> Result<()> {
    for (source, builder) in each_source(1) {
        let net = builder.start()?;
        let vm = net.vm(0);
        let mut listing = vm.listing();
        let first = vm.add_pod("first")?;
        refused(vm, "second")?;
        let added = Ipv4Addr::new(10, 240, 1, 77);
        change(&net, vm, source, &mut listing, |listing| listing.add(added));
        vm.await_status("larger", |status| status["pool"]["free"] == 1)?;
        let second = vm.add_pod("second")?;
        assert_eq!(second.address(), added, "{source}");
        assert!(vm.agent_log().contains("the pool has changed"), "{}", vm.agent_log());
        [first, second].iter().try_for_each(Pod::del)?;
        vm.expect_clean()?;
    }
    Ok(())
}

#[test]
fn agent_asks_the_source_again_soon_after_a_refused_pod() -> Result<()> {
    let quiet = "pool.refresh_min_secs = 1\npool.refresh_max_secs = 86400";
    let net = eager().agent_toml(quiet).pool(1).service(Service::WireServer).start()?;
    let vm = net.vm(0);
    // Pauses of 1, 2, 4 and 8 s are over; the next is 16 s, less a fifth at most.
    vm.await_status("asked five times", |status| {
        status["source"]["attempts"].as_u64().is_some_and(|attempts| attempts >= 5)
    })?;
    let pod = vm.add_pod("a")?;
    net.lister().change(vm, |listing| listing.add([10, 240, 1, 77]));
    let began = Instant::now();
    refused(vm, "b")?;
    vm.await_status("larger", |status| status["pool"]["total"] == 2)?;
    assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
    let next = vm.add_pod("b")?;
    [pod, next].iter().try_for_each(Pod::del)?;
    vm.expect_clean()
}

#[test]
fn address_that_vanishes_is_gone_at_once_if_free_and_with_its_pod_if_leased() -> Result<()> {
    for (source, builder) in each_source(2) {
        let net = builder.start()?;
        let vm = net.vm(0);
        let mut listing = vm.listing();
        let pod = vm.add_pod("a")?;
        let (leased, all) = (pod.address(), vm.pool().to_vec());
        change(&net, vm, source, &mut listing, |listing| all.iter().for_each(|address| listing.remove(*address)));
        // The free address is dropped. The pod keeps its address, and works.
        let status = vm.await_status("smaller", |status| status["pool"]["total"] == 1)?;
        assert_eq!((&status["pool"]["free"], &status["pool"]["leased"]), (&0.into(), &1.into()));
        refused(vm, "b")?;
        let echo = EchoServer::start(net.peer())?;
        assert_eq!(probe::tcp(&pod, echo.address())?.source_seen.ip(), leased);
        pod.check()?;
        pod.del()?;
        assert_eq!(vm.status()?["pool"]["total"], 0);
        vm.expect_clean()?;
    }
    Ok(())
}

#[test]
fn subnet_that_is_listed_later_sees_pods_as_they_are() -> Result<()> {
    let net = eager().agent_toml("routing.vnet_prefixes = []").service(Service::WireServer).start()?;
    let vm = net.vm(0);
    let pod = vm.add_pod("a")?;
    let echo = EchoServer::start(net.peer())?;
    let seen = || Ok::<_, azure_cni_tests::Error>(probe::udp(&pod, echo.address())?.source_seen.ip());
    assert_eq!(seen()?, vm.address());
    net.lister().change(vm, |listing| listing.add_subnet(PEERED_PREFIX, &[]));
    vm.await_status("changed", |status| status["source"]["changes"] == 1)?;
    assert_eq!(seen()?, pod.address());
    drop(echo);
    pod.del()?;
    vm.expect_clean()
}

#[test]
fn address_with_a_public_one_is_not_translated_once_the_source_lists_it() -> Result<()> {
    let net = eager().pool(2).service(Service::Imds).start()?;
    let vm = net.vm(0);
    let (a, b) = (vm.add_pod("a")?, vm.add_pod("b")?);
    // The Internet's host has a route back to pods, as if they had public addresses.
    azure_cni_tests::configure(net.internet().namespace(), "route add 10.240.0.0/16 via 198.51.100.1")?;
    let echo = EchoServer::start(net.internet())?;
    let seen = |pod: &Pod| Ok::<_, azure_cni_tests::Error>(probe::udp(pod, echo.address())?.source_seen.ip());
    assert_eq!((seen(&a)?, seen(&b)?), (IpAddr::from(vm.address()), IpAddr::from(vm.address())));
    net.lister().change(vm, |listing| listing.publish(a.address(), [198, 51, 100, 99]));
    vm.await_status("changed", |status| status["source"]["changes"] == 1)?;
    vm.await_log("the endpoint's egress", Duration::from_secs(5), |log| log.contains("the endpoint has new flags"))?;
    assert_eq!((seen(&a)?, seen(&b)?), (IpAddr::from(a.address()), IpAddr::from(vm.address())));
    // The same holds for an agent that starts while the source does not answer.
    net.lister().down();
    vm.restart_agent()?;
    assert_eq!((seen(&a)?, seen(&b)?), (IpAddr::from(a.address()), IpAddr::from(vm.address())));
    drop(echo);
    [a, b].iter().try_for_each(Pod::del)?;
    vm.expect_clean()
}

#[test]
fn source_that_is_down_leaves_the_last_pool_in_use_and_visibly_stale() -> Result<()> {
    for service in [Service::WireServer, Service::Imds] {
        let net = eager().pool(4).service(service).start()?;
        let vm = net.vm(0);
        let before = vm.add_pod("before")?;
        net.lister().down();
        let status = vm.await_status("stale", is_stale)?;
        let problems = status["problems"].to_string();
        for words in [service.source(), "http://", "no connection", "the last confirmed pool stays in use", " s ago"] {
            assert!(problems.contains(words), "{words:?} is not in {problems}");
        }
        let shown = vm.ctl(&["status"]).expect_err("there is a problem").to_string();
        assert!(shown.contains(", stale") && shown.contains("confirmed"), "{shown}");
        let during = vm.add_pod("during")?;
        before.del()?;

        // An agent that starts meanwhile uses the pool of the last one.
        vm.kill_agent()?;
        vm.start_agent()?;
        assert!(is_stale(&vm.status()?));
        during.check()?;
        let after = vm.add_pod("after")?;

        net.lister().up()?;
        vm.await_status("fresh", is_fresh)?;
        [during, after].iter().try_for_each(Pod::del)?;
        vm.expect_clean()?;
    }
    Ok(())
}

#[test]
fn faults_of_the_source_change_nothing_and_are_reported_with_their_cause() -> Result<()> {
    let net = eager().pool(16).service(Service::WireServer).start()?;
    let vm = net.vm(0);
    let redirected = Arrivals::watch(net.internet())?;
    let mut pods = Vec::new();
    for (fault, complaint) in [
        (Fault::Status(500), "status 500"),
        (Fault::Status(404), "status 404"),
        (Fault::Redirect, "redirects are not followed"),
        (Fault::Empty, "the document is empty"),
        (Fault::Truncated, "incomplete"),
        (Fault::WrongMac, "no interface in the address source has the uplink's MAC address"),
        (Fault::Dtd, "not an acceptable XML document"),
        (Fault::Huge, "longer than 4194304 bytes"),
        (Fault::Slow, "no complete response within 1 s"),
    ] {
        net.lister().fail(Some(fault));
        let status = vm.await_status(complaint, |status| {
            status["source"]["lastError"].as_str().is_some_and(|error| error.contains(complaint))
        })?;
        assert!(is_stale(&status), "{status}");
        pods.push(vm.add_pod(&format!("{}", pods.len()))?);
    }
    net.lister().fail(None);
    let status = vm.await_status("fresh", is_fresh)?;
    assert_eq!(status["source"]["changes"], 0, "{status}");
    assert_eq!(status["pool"]["total"], 16);
    assert_eq!(redirected.finish(), [], "the redirect was followed");
    assert_eq!(vm.dropped()?, [].into());
    pods.iter().try_for_each(Pod::del)?;
    vm.expect_clean()
}

#[test]
fn agent_that_knows_no_pool_waits_for_its_source_and_then_serves() -> Result<()> {
    let net = eager().pool(2).service(Service::Imds).without_agents().start()?;
    let vm = net.vm(0);
    net.lister().down();
    let waits = |times: usize| {
        vm.await_log("that it waits", Duration::from_secs(15), |log| {
            log.matches("no address pool yet").count() >= times
        })
    };
    vm.launch_agent(&[])?;
    waits(2)?;
    assert!(!vm.socket().exists(), "the agent serves before there is a pool");
    // It can be stopped while it waits.
    assert!(vm.stop_agent()?.success());
    vm.launch_agent(&[])?;
    waits(3)?;
    net.lister().up()?;
    vm.await_agent()?;
    let pod = vm.add_pod("a")?;
    pod.check()?;
    pod.del()?;
    vm.expect_clean()
}

#[test]
fn primary_address_that_the_uplink_lacks_is_a_problem_and_changes_nothing() -> Result<()> {
    let net = eager().pool(2).service(Service::WireServer).start()?;
    let vm = net.vm(0);
    let pod = vm.add_pod("a")?;
    net.lister().change(vm, |listing| {
        listing.set_primary([10, 240, 0, 99]);
        // A pod would get the address that source NAT uses.
        listing.add(vm.address());
    });
    let status = vm.await_status("stale", is_stale)?;
    let problems = status["problems"].to_string();
    assert!(problems.contains("10.240.0.99") && problems.contains("until the uplink has them"), "{problems}");
    assert_eq!(status["pool"]["total"], 2);
    let next = vm.add_pod("b")?;
    assert_ne!(next.address(), vm.address());
    [pod, next].iter().try_for_each(Pod::del)?;
    vm.expect_clean()
}

#[test]
fn file_that_is_spoilt_while_the_agent_runs_is_named_and_changes_nothing() -> Result<()> {
    let net = eager().pool(3).start()?;
    let vm = net.vm(0);
    for (text, complaint) in
        [("<Interfaces>\n<Interface", "pool.xml"), ("{}", "missing field `interface`"), ("", "empty")]
    {
        write(vm, text);
        vm.await_status(complaint, |status| {
            is_stale(status) && status["source"]["lastError"].as_str().is_some_and(|error| error.contains(complaint))
        })?;
    }
    vm.restart_agent()?;
    assert!(is_stale(&vm.status()?));
    let pod = vm.add_pod("a")?;
    write(vm, &vm.listing().xml());
    vm.await_status("fresh", is_fresh)?;
    pod.del()?;
    vm.expect_clean()
}
