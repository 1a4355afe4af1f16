//! A VM: its interface, its files, and the life of its agent.
//!
//! The agent and the plugin are the real binaries, run with the command lines and files that operators use.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, Ipv6Addr},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Output},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use nix::{sys::signal::Signal, unistd::Pid};
use serde_json::{Value, json};

use crate::{
    agent_config::{self, BPFFS, PINS, POOL, SOCKET, SPOOL, STATE},
    binaries,
    builder::FabricBuilder,
    cni::{CniCall, CniOutput},
    error::{Attempt, Error, Result},
    leftovers::Leftovers,
    namespace::Namespace,
    plan::{HOST_ADDRESS, Place},
    platform::Listing,
    pod::Pod,
    process::{self, Daemon},
    sandbox::{Sandbox, mount_fs, mount_tmpfs},
    station::{Host, Station},
};

/// An agent that needs longer than this to load its programs is broken, however busy the machine.
const READY_LIMIT: Duration = Duration::from_secs(20);
const STOP_LIMIT: Duration = Duration::from_secs(10);
const CALL_LIMIT: Duration = Duration::from_secs(30);

/// A VM of the network; dropping it kills its agent.
pub struct Vm {
    agent: Mutex<Option<Daemon>>,
    host: Host,
    dir: PathBuf,
    checksum_offload: bool,
}

impl Vm {
    pub(crate) fn prepare(sandbox: &Sandbox, host: Host, choice: &FabricBuilder) -> Result<Self> {
        host.namespace().sysctl("net/ipv4/ip_forward", "1")?;
        if choice.dual_stack {
            host.namespace().sysctl("net/ipv6/conf/all/forwarding", "1")?;
        }
        let dir = sandbox.create_dir(&format!("vms/{}", host.name()))?;
        sandbox.create_dir(&format!("vms/{}/{STATE}", host.name()))?;
        mount_fs("bpf", &sandbox.create_dir(&format!("vms/{}/{BPFFS}", host.name()))?)?;
        let vm = Self { agent: Mutex::new(None), host, dir, checksum_offload: choice.checksum_offload };
        vm.write(POOL, &Listing::of(vm.host.place()).xml())?;
        vm.write("agent.toml", &agent_config::compose(&vm.dir, choice.dual_stack, &choice.agent_config).to_string())?;
        Ok(vm)
    }

    /// Starts the agent and waits until it accepts calls.
    pub fn start_agent(&self) -> Result<()> {
        self.start_agent_with(&[])
    }

    /// Starts the agent with variables added to its environment.
    pub fn start_agent_with(&self, environment: &[(&str, &str)]) -> Result<()> {
        self.launch_agent(environment)?;
        self.await_agent().inspect_err(|_| drop(self.agent().take()))
    }

    /// Starts the agent and waits for nothing: it may not be able to serve yet.
    pub fn launch_agent(&self, environment: &[(&str, &str)]) -> Result<()> {
        let mut command = self.agent_command()?;
        command.envs(environment.iter().copied());
        let log = File::options().create(true).append(true).open(self.log_path());
        let log = log.attempt(|| format!("open {}", self.log_path().display()))?;
        command.stdout(log.try_clone().attempt(|| "share".into())?);
        command.stderr(log);
        *self.agent() = Some(Daemon::start(command)?);
        Ok(())
    }

    /// Waits until the agent accepts calls.
    pub fn await_agent(&self) -> Result<()> {
        let deadline = Instant::now() + READY_LIMIT;
        while UnixStream::connect(self.socket()).is_err() {
            let ended = self.agent().as_ref().map(|daemon| daemon.wait(Duration::ZERO));
            if let Some(Some(status)) = ended {
                return Err(self.agent_error(format!("ended with {status} instead of starting")));
            }
            if Instant::now() > deadline {
                return Err(self.agent_error(format!("does not accept on its socket after {READY_LIMIT:?}")));
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Runs an agent that must refuse to start, with arguments of the test's own after the usual ones; returns what it
    /// says. It is a second one if the VM's agent runs.
    pub fn refused_start(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.agent_command()?;
        command.args(arguments);
        let output = process::run(command, b"", READY_LIMIT)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() {
            return Err(Error::Answer {
                command: "azure-cni-agent".into(),
                answer: said,
                problem: "it started".into(),
            });
        }
        Ok(said)
    }

    /// Asks the agent to end (SIGTERM) and returns how it did.
    pub fn stop_agent(&self) -> Result<ExitStatus> {
        let daemon = self.take_agent()?;
        daemon.signal(Signal::SIGTERM);
        daemon.wait(STOP_LIMIT).ok_or_else(|| self.agent_error(format!("still runs {STOP_LIMIT:?} after SIGTERM")))
    }

    /// Kills the agent without warning (SIGKILL).
    pub fn kill_agent(&self) -> Result<()> {
        self.take_agent().map(drop)
    }

    /// Waits until the agent ends of its own account, and returns how it did.
    pub fn await_agent_end(&self) -> Result<ExitStatus> {
        let daemon = self.take_agent()?;
        daemon.wait(STOP_LIMIT).ok_or_else(|| self.agent_error(format!("still runs after {STOP_LIMIT:?}")))
    }

    /// Lays keys over `agent.toml`, for the next time it is read.
    pub fn overlay_agent_toml(&self, overlay: &str) -> Result<()> {
        let path = self.dir.join("agent.toml");
        let text = fs::read_to_string(&path).attempt(|| format!("read {}", path.display()))?;
        let mut config = text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let overlay = overlay.parse().unwrap_or_else(|error| panic!("overlay {overlay:?}: {error}"));
        agent_config::lay_over(&mut config, overlay);
        self.write("agent.toml", &config.to_string())
    }

    /// Has the agent read its configuration again (SIGHUP); returns once it says that it has.
    pub fn reload_agent(&self) -> Result<()> {
        const SAID: &str = "the configuration was read again";
        let before = self.agent_log().matches(SAID).count();
        match &*self.agent() {
            Some(daemon) => daemon.signal(Signal::SIGHUP),
            None => return Err(self.agent_error("does not run".into())),
        }
        self.await_log("the end of its reload", STOP_LIMIT, |log| log.matches(SAID).count() > before)
    }

    /// Waits until the agents' log is as wanted.
    pub fn await_log(&self, what: &str, limit: Duration, wanted: impl Fn(&str) -> bool) -> Result<()> {
        let deadline = Instant::now() + limit;
        while !wanted(&self.agent_log()) {
            if Instant::now() > deadline {
                return Err(self.agent_error(format!("has not logged {what} within {limit:?}")));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Stops the agent and starts it again, as an upgrade does.
    pub fn restart_agent(&self) -> Result<()> {
        self.stop_agent()?;
        self.start_agent()
    }

    /// Runs a pod: makes its namespace and has the plugin ADD it.
    pub fn add_pod(&self, name: &str) -> Result<Pod<'_>> {
        self.add_pod_with(name, self.netconf())
    }

    /// Runs a pod with a network configuration of the test's own.
    pub fn add_pod_with(&self, name: &str, netconf: Value) -> Result<Pod<'_>> {
        Pod::add(self, name, netconf, self.checksum_offload)
    }

    /// The network configuration that pods get unless told otherwise.
    pub fn netconf(&self) -> Value {
        json!({
            "cniVersion": "1.1.0",
            "name": "azure",
            "type": "azure-cni",
            "mode": "transparent",
            "ipsToRouteViaHost": [HOST_ADDRESS],
            "agentSocket": self.socket(),
            "spoolDir": self.spool_dir(),
        })
    }

    /// Runs the plugin exactly as the call says.
    pub fn cni(&self, call: &CniCall) -> Result<CniOutput> {
        process::run(self.plugin(call)?, call.stdin(), CALL_LIMIT).map(CniOutput::from)
    }

    /// Runs the plugin as the call says and kills it after `limit`, as a runtime does that has lost its patience; fails
    /// if it ends before.
    pub fn cni_abandoned(&self, call: &CniCall, limit: Duration) -> Result<()> {
        match process::run(self.plugin(call)?, call.stdin(), limit) {
            Err(Error::Overdue { .. }) => Ok(()),
            Ok(output) => {
                let problem = format!("it ended within {limit:?}");
                Err(Error::Answer { command: "azure-cni".into(), answer: format!("{output:?}"), problem })
            }
            Err(error) => Err(error),
        }
    }

    /// Bytes of the agent's memory that are in RAM (proc_pid_status(5), `VmRSS`).
    pub fn agent_resident_bytes(&self) -> Result<u64> {
        let status = self.agent_proc("status")?;
        let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok());
        kib.map(|kib: u64| kib * 1024).ok_or_else(|| self.agent_error("has no VmRSS".into()))
    }

    /// Processor time that the agent has used since it started (clock_getcpuclockid(3)).
    pub fn agent_processor_time(&self) -> Result<Duration> {
        let clock = nix::time::clock_getcpuclockid(self.agent_pid()?).attempt(|| "find the agent's clock".into())?;
        Ok(clock.now().attempt(|| "read the agent's clock".into())?.into())
    }

    fn agent_pid(&self) -> Result<Pid> {
        self.agent().as_ref().map(Daemon::pid).ok_or_else(|| self.agent_error("does not run".into()))
    }

    fn agent_proc(&self, file: &str) -> Result<String> {
        let pid = self.agent_pid()?;
        fs::read_to_string(format!("/proc/{pid}/{file}")).attempt(|| format!("read the agent's {file}"))
    }

    /// The plugin with the environment of a call, for whoever runs it in a way of their own. What has no folder of its
    /// own is kept in the VM's.
    pub fn plugin(&self, call: &CniCall) -> Result<Command> {
        let mut command = self.namespace().command(binaries::locate("azure-cni")?)?;
        command.env_clear().env("AZURE_CNI_SPOOL", self.spool_dir()).envs(call.environment());
        Ok(command)
    }

    /// Runs another plugin than ours, which must succeed.
    pub(crate) fn chained(&self, plugin: &str, call: &CniCall) -> Result<()> {
        let mut command = self.namespace().command(plugin)?;
        command.env_clear().envs(call.environment());
        process::run_ok(command, call.stdin(), CALL_LIMIT).map(drop)
    }

    /// The answer of the operator's command, such as `ctl(&["drops"])`.
    pub fn ctl(&self, arguments: &[&str]) -> Result<String> {
        process::run_ok(self.ctl_command(arguments)?, b"", CALL_LIMIT)
    }

    pub(crate) fn run_ctl(&self, arguments: &[&str]) -> Result<Output> {
        process::run(self.ctl_command(arguments)?, b"", CALL_LIMIT)
    }

    /// What pods have on this VM, or have left behind. The agent must run: it is asked too.
    pub fn leftovers(&self) -> Result<Leftovers> {
        Leftovers::of(self)
    }

    /// An error that names everything that pods have left behind, if there is anything.
    pub fn expect_clean(&self) -> Result<()> {
        let found = self.leftovers()?;
        if found.is_empty() {
            return Ok(());
        }
        Err(Error::Leftovers { vm: self.name().into(), found: Box::new(found) })
    }

    pub(crate) fn place(&self) -> &Place {
        self.host.place()
    }

    /// The IPv4 addresses that pods can get.
    pub fn pool(&self) -> &[Ipv4Addr] {
        &self.host.place().secondaries
    }

    /// What the platform lists of the VM as the network was built.
    pub fn listing(&self) -> Listing {
        Listing::of(self.host.place())
    }

    /// The IPv6 addresses that pods can get; none on a network of IPv4 alone.
    pub fn pool6(&self) -> &[Ipv6Addr] {
        self.host.place().v6.as_ref().map_or(&[], |v6| &v6.secondaries)
    }

    /// The agent's socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.join(SOCKET)
    }

    /// The directory that the agent pins to, on a bpf file system of the VM's own.
    pub fn bpffs_dir(&self) -> PathBuf {
        self.dir.join(PINS)
    }

    /// Where the agent keeps its records.
    pub fn state_dir(&self) -> PathBuf {
        self.dir.join(STATE)
    }

    /// Puts a file system of a few MiB where the agent keeps its records; `options` are those of tmpfs, such as `size=4m`.
    pub fn mount_state(&self, options: &str) -> Result<()> {
        mount_tmpfs(&self.state_dir(), options)
    }

    /// Where the plugin writes down what is to be freed while no agent is there.
    pub fn spool_dir(&self) -> PathBuf {
        self.dir.join(SPOOL)
    }

    /// The VM's own directory: `agent.toml`, `pool.xml`, `agent.log` and all of the above.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Everything that the VM's agents have logged so far.
    pub fn agent_log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn ctl_command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = self.namespace().command(binaries::locate("azure-cni-ctl")?)?;
        command.arg("--socket").arg(self.socket()).args(arguments);
        Ok(command)
    }

    fn agent_command(&self) -> Result<Command> {
        let mut command = self.namespace().command(binaries::locate("azure-cni-agent")?)?;
        command.arg("--config").arg(self.dir.join("agent.toml"));
        Ok(command)
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join("agent.log")
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.dir.join(name);
        fs::write(&path, text).attempt(|| format!("write {}", path.display()))
    }

    fn agent(&self) -> MutexGuard<'_, Option<Daemon>> {
        self.agent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_agent(&self) -> Result<Daemon> {
        let daemon = self.agent().take();
        daemon.ok_or_else(|| self.agent_error("does not run".into()))
    }

    fn agent_error(&self, problem: String) -> Error {
        Error::Agent { vm: self.name().into(), problem, log: self.agent_log() }
    }
}

impl Station for Vm {
    fn name(&self) -> &str {
        self.host.name()
    }

    fn address(&self) -> Ipv4Addr {
        self.host.address()
    }

    fn address6(&self) -> Option<Ipv6Addr> {
        self.host.address6()
    }

    fn namespace(&self) -> &Namespace {
        self.host.namespace()
    }
}
