//! The records on disk are damaged, lost, or cannot be written. Live pods do not notice, and calls report the problem.

use std::{fs, net::Ipv4Addr, path::PathBuf};

use azure_cni_agent::state::DIR_NAME;
use azure_cni_tests::{
    Fabric, Pod, Result, Station, Vm,
    probe::{self, Connection, EchoServer},
};
use serde_json::Value;

const IO: u32 = 5;

/// The pods as an operator sees them.
fn shown(vm: &Vm) -> Result<Vec<Value>> {
    vm.endpoints()
}

fn problems(vm: &Vm) -> Result<String> {
    Ok(vm.status()?["problems"].to_string())
}

/// Damage to the store while the agent does not run.
type Loss = fn(&Vm);

fn files(vm: &Vm) -> Vec<PathBuf> {
    let entries = fs::read_dir(vm.state_dir().join(DIR_NAME)).expect("the agent made it");
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    files
}

fn records(vm: &Vm) -> Vec<PathBuf> {
    let is_record = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "json");
    files(vm).into_iter().filter(is_record).collect()
}

fn overwritten(vm: &Vm) {
    for file in records(vm) {
        fs::write(file, vec![0x5a; 1 << 16]).expect("the agent wrote it");
    }
}

fn cut_short(vm: &Vm) {
    let file = &records(vm)[0];
    let whole = fs::read(file).expect("the agent wrote it");
    fs::write(file, &whole[..whole.len() / 3]).expect("the agent wrote it");
}

fn removed(vm: &Vm) {
    fs::remove_dir_all(vm.state_dir().join(DIR_NAME)).expect("the agent wrote it");
}

/// `damaged`: how many files are reported and kept for the operator.
fn assert_pods_outlive(loss: Loss, damaged: usize, builder: azure_cni_tests::FabricBuilder) -> Result<()> {
    let net = builder.pool(3).agent_toml("pool.cooldown_secs = 0").start()?;
    let vm = net.vm(0);
    let (a, b) = (vm.add_pod("a")?, vm.add_pod("b")?);
    let echo = EchoServer::start(&b)?;
    let mut stream = Connection::open(&a, echo.address())?;
    let before = shown(vm)?;
    vm.kill_agent()?;
    loss(vm);
    stream.round_trip(b"the agent is away")?;
    vm.start_agent()?;
    stream.round_trip(b"the agent is back")?;

    assert_eq!(shown(vm)?, before);
    assert_eq!(problems(vm)?.contains("store was damaged"), damaged > 0);
    assert_eq!(files(vm).iter().filter(|file| file.to_string_lossy().contains(".damaged-")).count(), damaged);
    assert_eq!(records(vm).len(), 2);
    for pod in [&a, &b] {
        pod.check()?;
        // The same ADD again, as from a runtime that did not get the answer.
        assert_eq!(vm.cni(&pod.call("ADD")?)?.json()?, *pod.result());
    }
    // A new pod gets none of their addresses.
    let c = vm.add_pod("c")?;
    assert!(![a.address(), b.address()].contains(&c.address()));
    probe::tcp(&c, echo.address())?;
    stream.round_trip(b"still there")?;

    vm.restart_agent()?;
    assert!(!problems(vm)?.contains("store was damaged"), "reported until the next start");
    assert_eq!(shown(vm)?.len(), 3);
    stream.round_trip(b"and after a sound start")?;
    drop((stream, echo));
    [&a, &b, &c].into_iter().try_for_each(Pod::del)?;
    vm.expect_clean()
}

#[test]
fn stream_between_pods_goes_on_through_a_store_that_was_overwritten() -> Result<()> {
    assert_pods_outlive(overwritten, 2, Fabric::builder().dual_stack())
}

#[test]
fn stream_between_pods_goes_on_through_a_record_that_was_cut_short() -> Result<()> {
    assert_pods_outlive(cut_short, 1, Fabric::builder())
}

#[test]
fn stream_between_pods_goes_on_through_a_store_that_was_removed() -> Result<()> {
    assert_pods_outlive(removed, 0, Fabric::builder())
}

/// Writes until there is no room left.
fn fill(vm: &Vm) {
    let path = vm.state_dir().join("filler");
    let mut file = fs::File::create(path).expect("room for a name");
    for piece in [1 << 16, 1 << 12, 1] {
        while std::io::Write::write_all(&mut file, &vec![0; piece]).is_ok() {}
    }
}

#[test]
fn full_disk_refuses_adds_with_nothing_left_of_them_and_serves_again_once_there_is_room() -> Result<()> {
    const MOST: usize = 64;
    let net = Fabric::builder().pool(MOST as u8).without_agents().agent_toml("pool.cooldown_secs = 0").start()?;
    let vm = net.vm(0);
    vm.mount_state("size=4m")?;
    vm.start_agent()?;
    let early = vm.add_pod("early")?;
    fill(vm);
    // Free space inside of the file may still be written to.
    let mut late = Vec::new();
    let refusal = loop {
        assert!(late.len() + 1 < MOST, "the disk is full, and {MOST} pods were recorded on it");
        let before = vm.leftovers()?;
        match vm.add_pod(&format!("late{}", late.len())) {
            Ok(pod) => late.push(pod),
            Err(error) => {
                assert_eq!(vm.leftovers()?, before, "half of a pod was left");
                break error;
            }
        }
    };
    let error = refusal.refusal().unwrap_or_else(|| panic!("{refusal}"));
    assert_eq!(error.code, IO, "{error}");
    assert!(error.msg.contains(DIR_NAME) && error.msg.contains("No space left"), "{error}");
    early.check()?;
    // A DEL is done as a whole or not at all.
    let doomed = late.pop();
    if let Some(pod) = &doomed {
        let del = vm.cni(&pod.call("DEL")?)?;
        if del.status.success() {
            assert_eq!(shown(vm)?.len(), 1 + late.len());
        } else {
            assert_eq!(del.error()?.code, IO);
            pod.check()?;
        }
    }
    // An agent that starts now serves the existing pods too.
    vm.restart_agent()?;
    early.check()?;

    fs::remove_file(vm.state_dir().join("filler")).expect("it was made");
    let next = vm.add_pod("next")?;
    let addresses: Vec<Ipv4Addr> = late.iter().chain([&early, &next]).map(Pod::address).collect();
    assert!((1..addresses.len()).all(|at| !addresses[at..].contains(&addresses[at - 1])), "{addresses:?}");
    late.iter().chain(&doomed).chain([&early, &next]).try_for_each(Pod::del)?;
    vm.expect_clean()
}

#[test]
fn read_only_state_directory_is_named_at_the_start() -> Result<()> {
    let net = Fabric::builder().without_agents().start()?;
    let vm = net.vm(0);
    vm.mount_state("size=1m,ro")?;
    let said = vm.refused_start(&[])?;
    for word in [&*vm.state_dir().to_string_lossy(), "Read-only file system"] {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
    Ok(())
}
