//! A VM: its interface, its files, and the life of its agent.
//!
//! The agent and the plugin are the real binaries, run with the command lines and files that operators use.

mod agent;

use std::{
    fs,
    net::{Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Mutex,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    agent_config::{self, BPFFS, PINS, POOL, SOCKET, SPOOL, STATE},
    binaries,
    cni::{CniCall, CniOutput},
    error::{Attempt, Error, Result},
    namespace::Namespace,
    options::FabricOptions,
    plan::{HOST_ADDRESS, Place},
    platform::Listing,
    process::{self, Daemon},
    sandbox::{Sandbox, mount_fs, mount_tmpfs},
    station::{Host, Station},
};

const CALL_LIMIT: Duration = Duration::from_secs(30);

/// A VM of the network; dropping it kills its agent.
pub struct Vm {
    agent: Mutex<Option<Daemon>>,
    host: Host,
    dir: PathBuf,
    checksum_offload: bool,
}

impl Vm {
    pub(crate) fn prepare(sandbox: &Sandbox, host: Host, options: &FabricOptions) -> Result<Self> {
        host.namespace().sysctl("net/ipv4/ip_forward", "1")?;
        if options.dual_stack {
            host.namespace().sysctl("net/ipv6/conf/all/forwarding", "1")?;
        }
        let dir = sandbox.create_dir(&format!("vms/{}", host.name()))?;
        sandbox.create_dir(&format!("vms/{}/{STATE}", host.name()))?;
        mount_fs("bpf", &sandbox.create_dir(&format!("vms/{}/{BPFFS}", host.name()))?)?;
        let vm = Self { agent: Mutex::new(None), host, dir, checksum_offload: options.checksum_offload };
        vm.write(POOL, &Listing::of(vm.host.place()).xml())?;
        vm.write("agent.toml", &agent_config::compose(&vm.dir, options.dual_stack, &options.agent_config).to_string())?;
        Ok(vm)
    }

    /// The default network configuration of pods.
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

    /// Runs the plugin as the call says and kills it after `limit`, as an impatient runtime does. Fails if the plugin ends
    /// before that.
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

    /// The plugin with the environment of a call, for callers that run it themselves. The spool is the VM's unless the call
    /// names another.
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

    /// Whether the interfaces of pods leave checksums to the receiver.
    pub(crate) fn checksum_offload(&self) -> bool {
        self.checksum_offload
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

    /// The plugin's spool.
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

    fn log_path(&self) -> PathBuf {
        self.dir.join("agent.log")
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.dir.join(name);
        fs::write(&path, text).attempt(|| format!("write {}", path.display()))
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
