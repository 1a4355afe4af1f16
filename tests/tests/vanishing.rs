//! A network is invisible on the machine and leaves nothing behind, whether it is dropped or its process is killed.

use std::{
    env, fs,
    fs::File,
    io::{self, BufRead, BufReader},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use azure_cni_tests::{Error, Fabric, FabricBuilder, Namespace, Result, Station, configure};
use nix::sched::{CloneFlags, setns, unshare};

fn plain() -> FabricBuilder {
    Fabric::builder().without_agents().pool(4)
}

#[test]
fn second_network_on_a_thread_is_refused_while_the_first_exists() -> Result<()> {
    let first = plain().start()?;
    assert!(matches!(plain().start(), Err(Error::Sandbox(_))));
    drop(first);
    plain().start().map(drop)
}

#[test]
fn namespace_outside_of_a_network_is_refused() {
    assert!(matches!(Namespace::create("stray"), Err(Error::Sandbox(_))));
}

#[test]
fn nothing_shows_on_the_machine_while_a_network_exists() -> Result<()> {
    let (standing, stands) = mpsc::channel();
    let (looked, look) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let network = scope.spawn(move || -> Result<()> {
            let _net = plain().vms(2).start()?;
            let _pod = Namespace::create("vm1-pod")?;
            standing.send(()).expect("the test waits");
            look.recv().expect("the test answers");
            Ok(())
        });
        if stands.recv().is_ok() {
            assert_eq!(traces_on_the_machine(), Vec::<String>::new());
            looked.send(()).expect("the network waits");
        }
        network.join().expect("does not panic")
    })
}

#[test]
fn everything_vanishes_with_the_network() -> Result<()> {
    let (outside, working_dir) = (Outside::open(), env::current_dir().expect("a working directory"));
    let net = plain().vms(2).start()?;
    let pod = Namespace::create("vm1-pod")?;
    outside.tie_to(net.vm(0).namespace())?;
    assert!(outside.sees_the_canary());
    drop(pod);
    drop(net);
    outside.await_the_canary_gone();
    assert_eq!(traces_on_the_machine(), Vec::<String>::new());
    assert_eq!(env::current_dir().expect("a working directory"), working_dir);
    Ok(())
}

/// Runs itself as a child that builds a network with a process in it, and kills that child.
#[test]
fn everything_vanishes_when_the_process_is_killed() -> Result<()> {
    const NAME: &str = "vanishing::everything_vanishes_when_the_process_is_killed";
    const OBSERVER: &str = "AZURE_CNI_TESTS_OBSERVER";
    const STANDS: &str = "the network stands";

    if let Some(observer) = env::var_os(OBSERVER) {
        let net = plain().start()?;
        tie(net.vm(0).namespace(), &PathBuf::from(observer))?;
        let lasting = format!("echo {STANDS}; exec sleep 600");
        let ended = net.vm(0).namespace().command("sh")?.args(["-c", &lasting]).status();
        panic!("the parent was to kill this process, but: {ended:?}");
    }

    let outside = Outside::open();
    let mut child = Command::new(env::current_exe().expect("a path"))
        .args(["--exact", NAME, "--nocapture"])
        .env(OBSERVER, outside.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the test runs itself");
    let output = BufReader::new(child.stdout.take().expect("piped"));
    let stands = output.lines().map_while(io::Result::ok).any(|line| line.contains(STANDS));
    assert!(stands, "the child ended early: {:?}", child.wait());
    assert!(outside.sees_the_canary());
    child.kill().expect("a child of ours");
    child.wait().expect("a child of ours");
    outside.await_the_canary_gone();
    Ok(())
}

/// A namespace outside of any network. If one end of a veth pair is moved here, it disappears with the namespace of the
/// other end. This proves that nothing holds that namespace any more.
struct Outside {
    handle: File,
}

impl Outside {
    fn open() -> Self {
        let unshared = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("root");
            File::open("/proc/thread-self/ns/net").expect("a namespace")
        });
        Self { handle: unshared.join().expect("does not panic") }
    }

    fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", process::id(), self.handle.as_raw_fd()).into()
    }

    fn tie_to(&self, namespace: &Namespace) -> Result<()> {
        tie(namespace, &self.path())
    }

    fn sees_the_canary(&self) -> bool {
        let look = || {
            setns(&self.handle, CloneFlags::CLONE_NEWNET).expect("root");
            fs::read_to_string("/proc/thread-self/net/dev").expect("a table").contains("canary")
        };
        thread::scope(|scope| scope.spawn(look).join().expect("does not panic"))
    }

    /// The kernel takes namespaces down in the background.
    fn await_the_canary_gone(&self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.sees_the_canary() {
            assert!(Instant::now() < deadline, "the namespace of the VM still exists");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

fn tie(namespace: &Namespace, outside: &Path) -> Result<()> {
    configure(namespace, &format!("link add tie type veth peer name canary netns {}", outside.display()))
}

/// The names of a network that the machine can see, from a thread without a network.
fn traces_on_the_machine() -> Vec<String> {
    const NAMES: [&str; 7] = ["fabric", "vm1", "vm2", "vm1-pod", "peer", "internet", "platform"];
    let links = fs::read_to_string("/proc/thread-self/net/dev").expect("a table");
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo").expect("a table");
    let linked = |name: &str| links.lines().any(|line| line.trim_start().starts_with(&format!("{name}:")));
    let named = |name: &str| Path::new("/run/netns").join(name).exists();
    let mounted = mounts.lines().filter(|line| line.contains(" /run/vms/")).map(String::from);
    let seen = NAMES.into_iter().filter(|name| linked(name) || named(name)).map(String::from);
    seen.chain(mounted).collect()
}
