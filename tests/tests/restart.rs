//! The agent ends, by request or by force, and starts again. The data path does not notice, and nothing is lost.

use std::{collections::BTreeSet, thread, time::Duration};

use azure_cni_tests::{
    CniCall, Fabric, Namespace, Pod, Result, Station, Vm,
    probe::{self, Connection, EchoServer},
};

/// How the agent ends.
type Ending = fn(&Vm) -> Result<()>;

fn stopped(vm: &Vm) -> Result<()> {
    let status = vm.stop_agent()?;
    assert!(status.success(), "{status}");
    assert!(!vm.socket().exists(), "nobody shall find a socket on which nobody answers");
    Ok(())
}

fn killed(vm: &Vm) -> Result<()> {
    vm.kill_agent()
}

/// Connections by every path stay open while the agent ends, is away and is back, twice.
fn assert_connections_survive(ending: Ending, attach: &str, overlay: &str) -> Result<()> {
    let net =
        Fabric::builder().vms(2).agent_toml(&format!("datapath.attach = '{attach}'")).agent_toml(overlay).start()?;
    let vm = net.vm(0);
    let pods = [vm.add_pod("a")?, vm.add_pod("b")?, net.vm(1).add_pod("c")?];
    let [pod, neighbour, remote] = &pods;
    let far_ends: [&dyn Station; 5] = [neighbour, remote, vm, net.internet(), net.peer()];
    let servers = far_ends.into_iter().map(EchoServer::start).collect::<Result<Vec<_>>>()?;
    let inside = EchoServer::start(pod)?;
    let mut open = servers.iter().map(|server| Connection::open(pod, server.address())).collect::<Result<Vec<_>>>()?;
    for outside in [vm as &dyn Station, remote, net.peer()] {
        open.push(Connection::open(outside, inside.address())?);
    }
    let mut all_work =
        |when: &str| open.iter_mut().try_for_each(|connection| connection.round_trip(when.as_bytes()).map(drop));

    for _ in 0..2 {
        ending(vm)?;
        all_work("the agent is away")?;
        // New connections need the data path alone.
        let translated = probe::tcp(pod, servers[3].address())?;
        assert_eq!(translated.source_seen.ip(), vm.address());
        probe::tcp(net.peer(), inside.address())?;
        vm.start_agent()?;
        all_work("the agent is back")?;
        [pod, neighbour].into_iter().try_for_each(Pod::check)?;
    }
    assert_eq!(vm.dropped()?, [].into());
    drop((open, servers, inside));
    pods.iter().try_for_each(Pod::del)?;
    net.vms().iter().try_for_each(|vm| vm.expect_clean())
}

#[test]
fn open_connections_survive_an_agent_that_is_restarted() -> Result<()> {
    assert_connections_survive(stopped, "tcx", "")
}

#[test]
fn open_connections_survive_an_agent_that_is_killed() -> Result<()> {
    assert_connections_survive(killed, "tcx", "routing.service_prefixes = []")
}

#[test]
fn open_connections_survive_an_agent_that_is_killed_without_tcx() -> Result<()> {
    assert_connections_survive(killed, "clsact", "")
}

#[test]
fn restarted_agent_knows_every_lease_and_serves_old_and_new_pods() -> Result<()> {
    for ending in [stopped as Ending, killed] {
        let net = Fabric::builder().pool(4).agent_toml("pool.cooldown_secs = 0").start()?;
        let vm = net.vm(0);
        let (a, b) = (vm.add_pod("a")?, vm.add_pod("b")?);
        ending(vm)?;
        vm.start_agent()?;
        assert_eq!(vm.status()?["pool"]["leased"], 2);
        // The same ADD again, as from a runtime that did not get the answer.
        assert_eq!(vm.cni(&a.call("ADD")?)?.json()?, *a.result());

        let (c, d) = (vm.add_pod("c")?, vm.add_pod("d")?);
        let pods = [&a, &b, &c, &d];
        let addresses: BTreeSet<_> = pods.iter().map(|pod| pod.address()).collect();
        assert_eq!(addresses.len(), 4, "an address was leased twice");
        let echo = EchoServer::start(&d)?;
        for pod in [&a, &b, &c] {
            assert_eq!(probe::tcp(pod, echo.address())?.source_seen.ip(), pod.address());
        }
        drop(echo);
        pods.into_iter().try_for_each(Pod::del)?;
        vm.expect_clean()?;
    }
    Ok(())
}

#[test]
fn pod_that_ended_while_the_agent_was_away_is_forgotten() -> Result<()> {
    let net = Fabric::builder().pool(1).agent_toml("pool.cooldown_secs = 0").start()?;
    let vm = net.vm(0);
    let pod = vm.add_pod("a")?;
    let interface = pod.host_interface().to_owned();
    vm.kill_agent()?;
    let del = pod.lose_namespace()?;
    // The kernel takes the namespace's interfaces down in the background.
    await_gone(vm, &interface);
    vm.start_agent()?;
    vm.expect_clean()?;
    let next = vm.add_pod("next")?;
    // The runtime's DEL comes late. It must take nothing from the next pod.
    assert!(vm.cni(&del)?.status.success());
    next.check()?;
    next.del()?;
    vm.expect_clean()
}

fn await_gone(vm: &Vm, interface: &str) {
    let path = format!("/proc/sys/net/ipv4/conf/{interface}");
    for _ in 0..500 {
        if !vm.namespace().run(|| std::path::Path::new(&path).exists()) {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("{interface} is still there");
}

#[test]
fn agent_killed_in_the_middle_of_adds_leaves_nothing_that_a_del_does_not_remove() -> Result<()> {
    const PODS: usize = 8;
    let net = Fabric::builder().pool(PODS as u8).agent_toml("pool.cooldown_secs = 0").start()?;
    let vm = net.vm(0);
    let namespaces = (0..PODS).map(|n| Namespace::create(&format!("pod{n}"))).collect::<Result<Vec<_>>>()?;
    for after in [5, 15, 30] {
        let calls: Vec<CniCall> = namespaces
            .iter()
            .map(|namespace| {
                let call = CniCall::new("ADD")?.attachment(namespace.name(), namespace.path(), "eth0");
                Ok(call.netconf(&vm.netconf()))
            })
            .collect::<Result<_>>()?;
        thread::scope(|scope| -> Result<()> {
            let adding: Vec<_> = calls.iter().map(|call| scope.spawn(move || vm.cni(call))).collect();
            thread::sleep(Duration::from_millis(after));
            vm.kill_agent()?;
            vm.start_agent()?;
            adding.into_iter().try_for_each(|worker| worker.join().expect("does not panic").map(drop))
        })?;
        // The runtime repeats the call. The remains of the first one are not in the way.
        let mut addresses = BTreeSet::new();
        for call in &calls {
            let result = vm.cni(call)?;
            assert!(result.status.success(), "{result:?}");
            addresses.insert(result.json()?["ips"][0]["address"].to_string());
        }
        assert_eq!(addresses.len(), PODS);
        for call in calls {
            assert!(vm.cni(&call.with("CNI_COMMAND", "DEL"))?.status.success());
        }
        vm.expect_clean()?;
    }
    Ok(())
}
