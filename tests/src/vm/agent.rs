//! The life of a VM's agent: start, reload, end, and what it uses.

use std::{
    fs::{self, File},
    os::unix::net::UnixStream,
    process::{Command, ExitStatus},
    sync::{MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use nix::{sys::signal::Signal, unistd::Pid};

use super::Vm;
use crate::{
    agent_config, binaries,
    error::{Attempt, Error, Result},
    process::{self, Daemon},
    station::Station,
};

/// An agent that needs longer than this to load its programs is broken, however busy the machine.
const READY_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(10);

impl Vm {
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
        self.launch(command)
    }

    /// Starts an agent that has only these capabilities (include/uapi/linux/capability.h), as in a container.
    pub fn start_agent_with_only(&self, capabilities: &'static [u32]) -> Result<()> {
        let mut command = self.agent_command()?;
        process::keep_capabilities(&mut command, capabilities);
        self.launch(command)?;
        self.await_agent().inspect_err(|_| drop(self.agent().take()))
    }

    fn launch(&self, mut command: Command) -> Result<()> {
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

    /// Runs an agent that must refuse to start, with these arguments after the usual ones; returns its error. If the VM's
    /// agent runs, this is a second one.
    pub fn refused_start(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.agent_command()?;
        command.args(arguments);
        Self::refused(command)
    }

    /// The same for an agent that has only these capabilities.
    pub fn refused_start_with_only(&self, capabilities: &'static [u32]) -> Result<String> {
        let mut command = self.agent_command()?;
        process::keep_capabilities(&mut command, capabilities);
        Self::refused(command)
    }

    fn refused(command: Command) -> Result<String> {
        let output = process::run(command, b"", READY_LIMIT)?;
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() {
            return Err(Error::Answer {
                command: "azure-cni-agent".into(),
                answer: message,
                problem: "it started".into(),
            });
        }
        Ok(message)
    }

    /// Stops the agent (SIGTERM) and returns how it ended.
    pub fn stop_agent(&self) -> Result<ExitStatus> {
        let daemon = self.take_agent()?;
        daemon.signal(Signal::SIGTERM);
        daemon.wait(STOP_LIMIT).ok_or_else(|| self.agent_error(format!("still runs {STOP_LIMIT:?} after SIGTERM")))
    }

    /// Kills the agent without warning (SIGKILL).
    pub fn kill_agent(&self) -> Result<()> {
        self.take_agent().map(drop)
    }

    /// Waits until the agent ends by itself, and returns how it ended.
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

    /// Makes the agent read its configuration again (SIGHUP), and waits until it has.
    pub fn reload_agent(&self) -> Result<()> {
        const LOGGED: &str = "the configuration was read again";
        let before = self.agent_log().matches(LOGGED).count();
        match &*self.agent() {
            Some(daemon) => daemon.signal(Signal::SIGHUP),
            None => return Err(self.agent_error("does not run".into())),
        }
        self.await_log("the end of its reload", STOP_LIMIT, |log| log.matches(LOGGED).count() > before)
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

    fn agent_command(&self) -> Result<Command> {
        let mut command = self.namespace().command(binaries::locate("azure-cni-agent")?)?;
        command.arg("--config").arg(self.dir.join("agent.toml"));
        Ok(command)
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
