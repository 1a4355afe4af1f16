//! azure-cns as the source: it assigns each pod its addresses, and every one of them is released.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use azure_cni_tests::{
    CniCall, Error, Fabric, FabricBuilder, Pod, Result, Station, Vm,
    platform::{Cns, CnsCall},
    probe::{self, EchoServer},
};
use serde_json::{Value, json};

const INVALID: u32 = 7;
const TRY_AGAIN: u32 = 11;

fn with_cns() -> FabricBuilder {
    Fabric::builder().pool(3).agent_toml(
        "pool.source = 'cns'\npool.refresh_min_secs = 1\npool.refresh_max_secs = 1\npool.request_timeout_secs = 1",
    )
}

fn netconf(vm: &Vm) -> Value {
    let mut netconf = vm.netconf();
    netconf["ipam"] = json!({"type": "azure-cns"});
    netconf["args"] = json!({"cni": {"K8S_POD_NAME": "web-0", "K8S_POD_NAMESPACE": "shop"}});
    netconf
}

fn add<'net>(vm: &'net Vm, name: &str) -> Result<Pod<'net>> {
    vm.add_pod_with(name, netconf(vm))
}

/// The message of an ADD that must fail for now.
fn refused(vm: &Vm, name: &str) -> Result<String> {
    let error = match add(vm, name) {
        Ok(pod) => panic!("{name} got {}", pod.address()),
        Err(error) => error,
    };
    let Some(refusal) = error.refusal() else { return Err(error) };
    assert_eq!(refusal.code, TRY_AGAIN, "{refusal}");
    Ok(refusal.msg.clone())
}

/// Releases are delivered in the background.
fn await_nothing_held(vm: &Vm, cns: &Cns) {
    let deadline = Instant::now() + Duration::from_secs(15);
    while !cns.held().is_empty() {
        assert!(Instant::now() < deadline, "still held: {:?}\n{}", cns.held(), vm.agent_log());
        thread::sleep(Duration::from_millis(20));
    }
}

fn paths(calls: &[CnsCall]) -> Vec<&str> {
    calls.iter().map(|call| call.path.as_str()).collect()
}

#[test]
fn pod_has_the_address_that_azure_cns_gives_and_del_gives_it_back() -> Result<()> {
    let net = with_cns().start()?;
    let vm = net.vm(0);
    let cns = Cns::start(vm)?;
    let pod = add(vm, "a")?;
    let interface_id = format!("{}-eth0", &pod.container_id()[..pod.container_id().len().min(8)]);
    assert_eq!(cns.held(), BTreeMap::from([(interface_id.clone(), pod.address())]));
    let body = json!({
        "desiredIPAddresses": null, "podInterfaceID": interface_id, "infraContainerID": pod.container_id(),
        "orchestratorContext": {"podName": "web-0", "podNamespace": "shop"}, "ifname": "eth0",
    });
    assert_eq!(cns.calls(), [CnsCall { path: "/network/requestipconfigs".into(), body: body.clone() }]);

    let echo = EchoServer::start(net.peer())?;
    assert_eq!(probe::tcp(&pod, echo.address())?.source_seen.ip(), pod.address());
    pod.check()?;
    // The same ADD again needs no azure-cns, also with the next agent and while the server is down.
    cns.down();
    for _ in 0..2 {
        assert_eq!(vm.cni(&pod.call("ADD")?)?.json()?, *pod.result());
        vm.restart_agent()?;
    }
    cns.up()?;
    assert_eq!(vm.status()?["pool"]["leased"], 1);
    drop(echo);
    pod.del()?;
    await_nothing_held(vm, &cns);
    assert_eq!(cns.calls().last(), Some(&CnsCall { path: "/network/releaseipconfigs".into(), body }));
    pod.del()?;
    vm.expect_clean()?;
    let status = vm.status()?;
    assert_eq!((&status["source"]["kind"], &status["problems"]), (&json!("cns"), &json!([])));
    Ok(())
}

#[test]
fn release_that_cannot_be_delivered_holds_no_del_up_and_is_delivered_later() -> Result<()> {
    let net = with_cns().start()?;
    let vm = net.vm(0);
    let cns = Cns::start(vm)?;
    let pods = [add(vm, "a")?, add(vm, "b")?];
    cns.down();
    let began = Instant::now();
    pods.iter().try_for_each(Pod::del)?;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    vm.await_status("troubled", |status| status["problems"].to_string().contains("azure-cns http://localhost:10090"))?;
    vm.kill_agent()?;
    assert_eq!(cns.held().len(), 2);
    cns.up()?;
    vm.start_agent()?;
    await_nothing_held(vm, &cns);
    vm.expect_clean()
}

#[test]
fn pod_that_comes_back_while_its_release_is_pending_keeps_its_address() -> Result<()> {
    let net = with_cns().start()?;
    let vm = net.vm(0);
    let cns = Cns::start(vm)?;
    let pod = add(vm, "a")?;
    cns.refuse(Some(45));
    pod.del()?;
    vm.await_status("troubled", |status| status["problems"].to_string().contains("ReturnCode 45"))?;
    cns.refuse(None);
    let again = vm.cni(&pod.call("ADD")?)?.json()?;
    let address = again["ips"][0]["address"].as_str().expect("an address").to_owned();
    // No release is pending, so the address stays held.
    thread::sleep(Duration::from_millis(2500));
    let held: Vec<_> = cns.held().into_values().map(|address| format!("{address}/32")).collect();
    assert_eq!(held, [address]);
    pod.del()?;
    await_nothing_held(vm, &cns);
    vm.expect_clean()
}

#[test]
fn refusal_of_azure_cns_is_reported_and_means_try_again() -> Result<()> {
    let net = with_cns().start()?;
    let vm = net.vm(0);
    let message = refused(vm, "a")?;
    assert!(message.contains("http://localhost:10090/network/requestipconfigs: no connection"), "{message}");
    let cns = Cns::start(vm)?;
    cns.refuse(Some(32));
    let message = refused(vm, "a")?;
    assert!(message.contains("ReturnCode 32 (failed to allocate an address): as configured"), "{message}");
    cns.refuse(None);
    let pods = ["a", "b", "c"].map(|name| add(vm, name)).into_iter().collect::<Result<Vec<_>>>()?;
    refused(vm, "d")?;
    pods.iter().try_for_each(Pod::del)?;
    await_nothing_held(vm, &cns);
    vm.expect_clean()
}

#[test]
fn address_whose_answer_came_too_late_is_given_back() -> Result<()> {
    let net = with_cns().start()?;
    let vm = net.vm(0);
    let cns = Cns::start(vm)?;
    cns.answer_late(Duration::from_secs(5));
    let message = refused(vm, "a")?;
    assert!(message.contains("no complete response within 1 s"), "{message}");
    await_nothing_held(vm, &cns);
    vm.expect_clean()
}

#[test]
fn agent_that_is_killed_during_a_request_releases_the_address_after_its_restart() -> Result<()> {
    let net = with_cns().agent_toml("pool.request_timeout_secs = 20").start()?;
    let vm = net.vm(0);
    let cns = Cns::start(vm)?;
    cns.answer_late(Duration::from_secs(10));
    thread::scope(|scope| {
        let asking = scope.spawn(|| add(vm, "a").map(drop));
        let deadline = Instant::now() + Duration::from_secs(10);
        while cns.held().is_empty() {
            assert!(Instant::now() < deadline, "it was not asked\n{}", vm.agent_log());
            thread::sleep(Duration::from_millis(5));
        }
        vm.kill_agent()?;
        assert!(asking.join().expect("does not panic").is_err());
        vm.start_agent()
    })?;
    await_nothing_held(vm, &cns);
    vm.expect_clean()
}

/// The name of a pod's interface at azure-cns has only eight characters of the container.
#[test]
fn pod_that_azure_cns_takes_for_another_is_refused_and_takes_nothing_from_it() -> Result<()> {
    let net = with_cns().start()?;
    let vm = net.vm(0);
    let cns = Cns::start(vm)?;
    let pod = add(vm, "twin-one")?;
    let (held, interface_id) = (cns.held(), format!("{}-eth0", &pod.container_id()[..8]));
    assert_eq!(held.keys().collect::<Vec<_>>(), [&interface_id]);
    let message = refused(vm, "twin-two")?;
    assert!(message.contains("another pod of this node has"), "{message}");
    // Its pending release is delivered in the background.
    thread::sleep(Duration::from_millis(2500));
    assert_eq!(cns.held(), held);
    assert_eq!(paths(&cns.calls()), ["/network/requestipconfigs"; 2]);
    pod.check()?;
    pod.del()?;
    await_nothing_held(vm, &cns);
    vm.expect_clean()
}

#[test]
fn add_that_fails_in_any_step_gives_the_address_back() -> Result<()> {
    for step in ["lease", "veth", "record"] {
        let net = with_cns().without_agents().start()?;
        let vm = net.vm(0);
        let cns = Cns::start(vm)?;
        vm.start_agent_with(&[("AZURE_CNI_FAIL_AFTER", step)])?;
        let error = add(vm, "a").err().expect("a test asked it to fail");
        assert!(matches!(error, Error::Cni { .. }), "{error}");
        await_nothing_held(vm, &cns);
        assert_eq!(paths(&cns.calls()), ["/network/requestipconfigs", "/network/releaseipconfigs"], "{step}");
        vm.expect_clean()?;
    }
    Ok(())
}

#[test]
fn server_that_knows_the_older_calls_only_is_spoken_to_in_these() -> Result<()> {
    let net = with_cns().start()?;
    let vm = net.vm(0);
    let cns = Cns::start(vm)?;
    cns.be_old();
    let pod = add(vm, "a")?;
    assert!(vm.pool().contains(&pod.address()));
    pod.del()?;
    await_nothing_held(vm, &cns);
    let calls = cns.calls();
    let expected = ["/network/requestipconfigs", "/network/requestipconfig", "/network/releaseipconfig"];
    assert_eq!(paths(&calls), expected);
    assert_eq!(calls[1].body["desiredIPAddress"], "");
    vm.expect_clean()
}

#[test]
fn requested_address_is_requested_of_azure_cns_and_no_other_is_accepted() -> Result<()> {
    let net = with_cns().start()?;
    let vm = net.vm(0);
    let cns = Cns::start(vm)?;
    let wanted = vm.pool()[0];
    let mut asking = netconf(vm);
    asking["runtimeConfig"] = json!({"ips": [wanted]});
    let pod = vm.add_pod_with("a", asking.clone())?;
    assert_eq!(pod.address(), wanted);
    assert_eq!(cns.calls()[0].body["desiredIPAddresses"], json!([wanted]));

    // The address is held, so azure-cns assigns another one, which is released.
    let error = vm.add_pod_with("b", asking).err().expect("the address is held");
    assert_eq!(error.refusal().map(|refusal| refusal.code), Some(INVALID), "{error}");
    let deadline = Instant::now() + Duration::from_secs(15);
    while cns.held().len() > 1 {
        assert!(Instant::now() < deadline, "still held: {:?}", cns.held());
        thread::sleep(Duration::from_millis(20));
    }
    // And the result for an existing pod does not claim an address that it does not have.
    let mut other = netconf(vm);
    other["runtimeConfig"] = json!({"ips": [vm.pool()[1]]});
    assert_eq!(vm.cni(&pod.call("ADD")?.netconf(&other))?.error()?.code, INVALID);
    let mut public = netconf(vm);
    public["publicAddress"] = json!(true);
    let error = vm.add_pod_with("c", public).err().expect("azure-cns tells of no public addresses");
    assert_eq!(error.refusal().map(|refusal| refusal.code), Some(INVALID), "{error}");
    pod.check()?;
    pod.del()?;
    await_nothing_held(vm, &cns);
    vm.expect_clean()
}

/// Whatever azure-cns says: what no pod may have is no pod's, and goes back.
#[test]
fn address_that_no_pod_may_have_is_refused_and_given_back() -> Result<()> {
    let net = with_cns().start()?;
    let vm = net.vm(0);
    let cns = Cns::start(vm)?;
    let pod = add(vm, "a")?;
    let held = cns.held();
    let (own, another) = (vm.address().to_string(), pod.address().to_string());
    azure_cni_tests::configure(vm.namespace(), "addr add 10.240.7.7/32 dev lo")?;
    for (given, reason) in [
        (own.as_str(), "the VM's own address"),
        ("10.240.7.7", "an interface of the host has it"),
        ("10.240.0.1", "the subnet's gateway"),
        ("10.99.0.4", "outside of the subnet 10.240.0.0/16"),
        (another.as_str(), "another pod of this node has"),
    ] {
        let address = given.to_owned();
        cns.bend(move |infos| infos[0]["PodIPConfig"]["IPAddress"] = json!(address));
        let message = refused(vm, "b")?;
        assert!(message.contains(reason) || message.contains("no pod gets 10.240.7.7"), "{given}: {message}");
        let deadline = Instant::now() + Duration::from_secs(15);
        while cns.held() != held {
            assert!(Instant::now() < deadline, "{given}: still held: {:?}", cns.held());
            thread::sleep(Duration::from_millis(20));
        }
    }
    for (given, subnet, length) in [
        ("168.63.129.16", "168.63.0.0", 16),
        ("169.254.169.254", "169.254.0.0", 16),
        ("127.0.0.7", "127.0.0.0", 8),
        ("0.0.0.7", "0.0.0.0", 8),
        ("240.0.0.7", "240.0.0.0", 8),
    ] {
        cns.bend(move |infos| {
            infos[0]["PodIPConfig"]["IPAddress"] = json!(given);
            infos[0]["NetworkContainerPrimaryIPConfig"]["IPSubnet"] =
                json!({"IPAddress": subnet, "PrefixLength": length});
        });
        let message = refused(vm, "b")?;
        assert!(message.contains(&format!("azure-cns gave {given}, which no pod gets")), "{message}");
    }
    cns.bend(|_| ());
    let next = add(vm, "b")?;
    pod.check()?;
    [pod, next].iter().try_for_each(Pod::del)?;
    await_nothing_held(vm, &cns);
    vm.expect_clean()
}

#[test]
fn what_azure_cns_asks_for_is_done_or_refused_by_name() -> Result<()> {
    let net = with_cns().start()?;
    let vm = net.vm(0);
    let cns = Cns::start(vm)?;
    let asked = [
        ("SkipDefaultRoutes", json!(true), "SkipDefaultRoutes"),
        (
            "Routes",
            json!([{"IPAddress": "10.9.0.0/16", "GatewayIPAddress": "10.240.0.99"}]),
            "10.9.0.0/16 via 10.240.0.99",
        ),
        ("EndpointPolicies", json!([{"type": "ACL"}]), "EndpointPolicies"),
    ];
    for (key, value, complaint) in asked {
        cns.bend(move |infos| infos[0][key] = value.clone());
        let message = refused(vm, "a")?;
        assert!(message.contains(complaint), "{message}");
        await_nothing_held(vm, &cns);
    }
    cns.bend(|infos| {
        let mut second = infos[0].clone();
        second["PodIPConfig"]["IPAddress"] = json!("10.240.9.9");
        *infos = json!([infos[0], second]);
    });
    assert!(refused(vm, "a")?.contains("a pod has one address of a family"));
    await_nothing_held(vm, &cns);
    // A route through the pod's own gateway says what is so.
    cns.bend(|infos| infos[0]["Routes"] = json!([{"IPAddress": "10.9.0.0/16", "GatewayIPAddress": "169.254.1.1"}]));
    let pod = add(vm, "a")?;
    pod.check()?;
    pod.del()?;
    await_nothing_held(vm, &cns);
    vm.expect_clean()
}

#[test]
fn status_needs_no_pool_where_azure_cns_has_the_addresses() -> Result<()> {
    let net = with_cns().start()?;
    let vm = net.vm(0);
    let status = CniCall::new("STATUS")?.netconf(&netconf(vm));
    assert!(vm.cni(&status)?.status.success());
    let cns = Cns::start(vm)?;
    let pod = add(vm, "a")?;
    assert!(vm.cni(&status)?.status.success());
    pod.del()?;
    await_nothing_held(vm, &cns);
    vm.expect_clean()
}
