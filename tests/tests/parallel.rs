//! Many calls at once: no call waits for a lock of another pod, nothing is mixed up, and nothing is left.

use std::{collections::BTreeSet, thread};

use azure_cni_tests::{
    CniCall, Fabric, Namespace, Pod, Result, Station,
    probe::{self, EchoServer},
};

const PODS: usize = 20;

#[test]
fn pods_added_at_once_all_reach_each_other_and_go_at_once() -> Result<()> {
    for attach in ["tcx", "clsact"] {
        let overlay = format!("datapath.attach = '{attach}'");
        let net = Fabric::builder().pool(PODS as u8).agent_toml(&overlay).start()?;
        let vm = net.vm(0);
        let names: Vec<String> = (0..PODS).map(|number| format!("pod{number}")).collect();
        let pods: Vec<Pod> = at_once(&names, |name| vm.add_pod(name))?;
        let addresses: BTreeSet<_> = pods.iter().map(Station::address).collect();
        assert_eq!(addresses.len(), PODS);
        assert_eq!(vm.endpoints()?.len(), PODS);

        let internet = EchoServer::start(net.internet())?;
        for (pod, next) in pods.iter().zip(pods.iter().cycle().skip(1)) {
            let echo = EchoServer::start(next)?;
            assert_eq!(probe::tcp(pod, echo.address())?.source_seen.ip(), pod.address());
            assert_eq!(probe::udp(vm, echo.address())?.source_seen.ip(), vm.address());
            assert_eq!(probe::tcp(pod, internet.address())?.source_seen.ip(), vm.address());
        }
        at_once(&pods, Pod::check)?;
        at_once(&pods, Pod::del)?;
        vm.expect_clean()?;
    }
    Ok(())
}

#[test]
fn one_attachment_added_many_times_at_once_is_added_once() -> Result<()> {
    let net = Fabric::builder().start()?;
    let vm = net.vm(0);
    let namespace = Namespace::create("pod")?;
    let add = CniCall::new("ADD")?.attachment("pod", namespace.path(), "eth0").netconf(&vm.netconf());
    let results = at_once(&[(); 8], |()| vm.cni(&add)?.json())?;
    assert!(results[0]["ips"][0]["address"].is_string(), "{}", results[0]);
    assert!(results.iter().all(|result| *result == results[0]), "{results:?}");
    assert_eq!(vm.endpoints()?.len(), 1);

    let del = add.with("CNI_COMMAND", "DEL");
    let outputs = at_once(&[(); 8], |()| vm.cni(&del))?;
    assert!(outputs.iter().all(|output| output.status.success()), "{outputs:?}");
    vm.expect_clean()
}

#[test]
fn add_and_del_of_one_attachment_at_once_end_in_one_of_their_two_orders() -> Result<()> {
    let net = Fabric::builder().agent_toml("pool.cooldown_secs = 0").start()?;
    let vm = net.vm(0);
    for round in 0..5 {
        let namespace = Namespace::create(&format!("pod{round}"))?;
        let add = CniCall::new("ADD")?.attachment("pod", namespace.path(), "eth0").netconf(&vm.netconf());
        let del = add.clone().with("CNI_COMMAND", "DEL");
        let outputs = at_once(&[add.clone(), del.clone()], |call| vm.cni(call))?;
        assert!(outputs.iter().all(|output| output.status.success()), "{outputs:?}");
        match vm.endpoints()?.len() {
            0 => vm.expect_clean()?,
            _ => {
                let mut netconf = vm.netconf();
                netconf["prevResult"] = outputs[0].json()?;
                let check = vm.cni(&add.with("CNI_COMMAND", "CHECK").netconf(&netconf))?;
                assert!(check.status.success(), "{check:?}");
            }
        }
        assert!(vm.cni(&del)?.status.success());
        vm.expect_clean()?;
    }
    Ok(())
}

/// Runs `work` for all items at the same time; returns the first error.
fn at_once<'a, T: Sync, R: Send>(items: &'a [T], work: impl Fn(&'a T) -> Result<R> + Sync) -> Result<Vec<R>> {
    let work = &work;
    thread::scope(|scope| {
        let workers: Vec<_> = items.iter().map(|item| scope.spawn(move || work(item))).collect();
        workers.into_iter().map(|worker| worker.join().expect("does not panic")).collect()
    })
}
