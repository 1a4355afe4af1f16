//! The reconciler repairs damage within seconds and counts it, and it touches nothing that is not ours.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use azure_cni_agent::state::Store;
use azure_cni_tests::{
    Fabric, Pod, Result, Station, Vm, configure,
    probe::{self, Connection, EchoServer},
    query,
};

/// Far above two rounds and the grace of these tests.
const LIMIT: Duration = Duration::from_secs(20);
const QUICK: &str = "reconcile.interval_secs = 1\nreconcile.grace_secs = 0\npool.cooldown_secs = 0";

fn await_true(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    while !holds()? {
        assert!(Instant::now() < deadline, "{what}: not within {LIMIT:?}");
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn repairs(vm: &Vm, action: &str) -> Result<u64> {
    Ok(vm.status()?["repairs"][action].as_u64().unwrap_or_default())
}

fn exists(vm: &Vm, interface: &str) -> Result<bool> {
    Ok(query(vm.namespace(), "link show")?.iter().any(|link| link["ifname"] == interface))
}

type Damage = (&'static str, fn(&Vm, &Pod) -> Result<()>);

const DAMAGES: &[Damage] = &[
    ("route-repaired", |vm, pod| configure(vm.namespace(), &format!("route del {}/32", pod.address()))),
    ("neighbour-repaired", |vm, pod| {
        configure(vm.namespace(), &format!("neigh del {} dev {}", pod.address(), pod.host_interface()))
    }),
    ("program-repaired", |vm, pod| {
        let pin = vm.pins("links").join(format!("{}-from_endpoint", pod.host_interface()));
        fs::remove_file(&pin).unwrap_or_else(|error| panic!("{}: {error}", pin.display()));
        Ok(())
    }),
    ("map-entry-repaired", |vm, pod| vm.forget_in_data_path(pod.address())),
    ("veth-set-up", |vm, pod| configure(vm.namespace(), &format!("link set {} down", pod.host_interface()))),
    ("veth-labelled", |vm, pod| configure(vm.namespace(), &format!("link set {} group 0", pod.host_interface()))),
    ("veth-rebuilt", |vm, pod| configure(vm.namespace(), &format!("link del {}", pod.host_interface()))),
];

#[test]
fn whatever_a_pod_has_lost_on_the_host_is_put_back_and_counted() -> Result<()> {
    let net = Fabric::builder().agent_toml("datapath.attach = 'tcx'").agent_toml(QUICK).start()?;
    let vm = net.vm(0);
    let (pod, neighbour) = (vm.add_pod("a")?, vm.add_pod("b")?);
    let echo = EchoServer::start(&neighbour)?;
    for (action, damage) in DAMAGES {
        assert_eq!(repairs(vm, action)?, 0, "{action}");
        damage(vm, &pod)?;
        await_true(action, || Ok(repairs(vm, action)? > 0))?;
        let check = || Ok(vm.cni(&pod.call("CHECK")?)?.status.success());
        await_true(action, check)?;
        assert_eq!(probe::tcp(&pod, echo.address())?.source_seen.ip(), pod.address(), "{action}");
    }
    // The neighbour entry was correct all the time.
    neighbour.check()?;
    drop(echo);
    pod.del()?;
    neighbour.del()?;
    vm.expect_clean()
}

#[test]
fn lease_of_a_namespace_that_is_gone_is_released_after_the_grace_and_not_before() -> Result<()> {
    let net = Fabric::builder().pool(1).agent_toml(QUICK).agent_toml("reconcile.grace_secs = 4").start()?;
    let vm = net.vm(0);
    let pod = vm.add_pod("a")?;
    let interface = pod.host_interface().to_owned();
    pod.lose_namespace()?;
    await_true("the veth goes with its namespace", || Ok(!exists(vm, &interface)?))?;
    let gone = Instant::now();
    await_true("lease-released", || Ok(vm.status()?["pool"]["leased"] == 0))?;
    assert!(gone.elapsed() >= Duration::from_secs(3), "released after {:?}", gone.elapsed());
    assert_eq!(repairs(vm, "lease-released")?, 1);
    vm.expect_clean()?;
    let next = vm.add_pod("next")?;
    next.del()?;
    vm.expect_clean()
}

/// A later plugin of the chain fails ADD and DEL, so ours gets no DEL. The runtime removes the namespace and tries with another.
#[test]
fn chain_that_fails_again_and_again_keeps_no_address() -> Result<()> {
    const TRIES: usize = 20;
    // Far fewer addresses than tries, and the agent's own intervals.
    let net = Fabric::builder().dual_stack().pool(4).agent_toml("pool.cooldown_secs = 0").start()?;
    let vm = net.vm(0);
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut tries = 0;
    while tries < TRIES {
        assert!(Instant::now() < deadline, "{tries} of {TRIES} tries got an address\n{}", vm.agent_log());
        match vm.add_pod(&format!("try{tries}")) {
            Ok(pod) => {
                tries += 1;
                drop(pod);
            }
            Err(error) if error.refusal().is_some_and(|refusal| refusal.code == 11) => {
                thread::sleep(Duration::from_millis(100));
            }
            Err(error) => return Err(error),
        }
    }
    await_true("every address is back", || {
        let status = vm.status()?;
        Ok(status["pool"]["leased"] == 0 && status["pool6"]["leased"] == 0)
    })?;
    assert_eq!(repairs(vm, "lease-released")?, TRIES as u64);
    vm.expect_clean()
}

#[test]
fn our_remains_without_an_owner_are_removed_and_the_rest_stays() -> Result<()> {
    let net = Fabric::builder().agent_toml(QUICK).start()?;
    let vm = net.vm(0);
    let pod = vm.add_pod("a")?;
    // One as the platform's own plugin makes it, and one as an unfinished ADD of ours leaves it.
    let (foreign, ours) = ("azv0123456789a", "azv0123456789b");
    configure(
        vm.namespace(),
        &format!(
            "link add {foreign} address aa:aa:aa:aa:aa:aa type veth peer name peer0\nlink set {foreign} up\n\
             route add 10.240.0.222/32 dev {foreign}\n\
             link add {ours} group 2753 address aa:aa:aa:aa:aa:aa type veth peer name peer1\n"
        ),
    )?;
    await_true("veth-removed", || Ok(!exists(vm, ours)?))?;
    vm.plant_in_data_path(vm.pool()[9], 4711)?;
    await_true("map-entry-removed", || Ok(repairs(vm, "map-entry-removed")? == 1))?;
    assert!(exists(vm, foreign)?);
    let routes = query(vm.namespace(), "route show")?;
    assert!(routes.iter().any(|route| route["dst"] == "10.240.0.222"), "{routes:?}");
    pod.check()?;
    configure(vm.namespace(), &format!("link del {foreign}"))?;
    pod.del()?;
    vm.expect_clean()
}

#[test]
fn a_namespace_that_lives_on_without_its_path_keeps_its_pod() -> Result<()> {
    let net = Fabric::builder().agent_toml(QUICK).start()?;
    let vm = net.vm(0);
    let (pod, neighbour) = (vm.add_pod("a")?, vm.add_pod("b")?);
    let echo = EchoServer::start(&neighbour)?;
    let mut open = Connection::open(&pod, echo.address())?;
    // What a runtime does before the last process of a pod has ended. The namespace's own handle keeps it alive.
    nix::mount::umount2(pod.namespace().path(), nix::mount::MntFlags::MNT_DETACH).expect("it is mounted");
    for _ in 0..4 {
        thread::sleep(Duration::from_secs(1));
        open.round_trip(b"still there")?;
    }
    assert_eq!(repairs(vm, "lease-released")?, 0);
    drop((open, echo));
    pod.del()?;
    neighbour.del()?;
    vm.expect_clean()
}

#[test]
fn leases_of_an_earlier_boot_are_released_at_the_start() -> Result<()> {
    let net = Fabric::builder().pool(1).agent_toml("pool.cooldown_secs = 0").start()?;
    let vm = net.vm(0);
    let _pod = vm.add_pod("a")?;
    vm.stop_agent()?;
    {
        let store = Store::open(&vm.state_dir(), "another boot").expect("the agent has closed it");
        let mut records = store.all();
        assert_eq!(records.len(), 1);
        records[0].boot_id = "another boot".to_owned();
        store.put(&records[0]).expect("room");
    }
    vm.start_agent()?;
    assert_eq!(repairs(vm, "lease-released")?, 1);
    vm.expect_clean()?;
    let next = vm.add_pod("next")?;
    next.del()?;
    vm.expect_clean()
}

#[test]
fn reconciler_leaves_running_calls_alone() -> Result<()> {
    const WORKERS: usize = 4;
    let net = Fabric::builder().agent_toml(QUICK).start()?;
    let vm = net.vm(0);
    let until = Instant::now() + Duration::from_secs(8);
    thread::scope(|scope| -> Result<()> {
        let work = |worker: usize| {
            let mut round = 0;
            while Instant::now() < until {
                let pod = vm.add_pod(&format!("w{worker}-{round}"))?;
                pod.check()?;
                pod.del()?;
                round += 1;
            }
            Ok(())
        };
        let workers: Vec<_> = (0..WORKERS).map(|worker| scope.spawn(move || work(worker))).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("does not panic"))
    })?;
    assert_eq!(vm.status()?["repairs"], serde_json::Value::Null, "{}", vm.agent_log());
    vm.expect_clean()
}
