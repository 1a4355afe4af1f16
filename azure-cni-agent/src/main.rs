//! The daemon: reads its configuration, starts the agent and serves until it gets SIGTERM or SIGINT. SIGHUP makes it read
//! its configuration again. The data path goes on without it.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use azure_cni_agent::config::load::Overrides;
use azure_cni_agent::config::{AgentConfig, ConfigError};
use azure_cni_agent::conflist::{self, Absent};
use azure_cni_agent::{background, server, start};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::task::TaskTracker;
use tracing_subscriber::filter::LevelFilter;

/// How long the end waits for calls that have begun; less than systemd waits for a service.
const LAST_CALLS_TIMEOUT: Duration = Duration::from_secs(60);

/// Attaches pods to the virtual network through eBPF.
///
/// Runs on every VM, as root. Serves the azure-cni plugin on a Unix socket, keeps leases and programs, and leaves the
/// data path running when it ends: restart or upgrade it at any time.
#[derive(Debug, Parser)]
#[command(name = "azure-cni-agent", version)]
struct Arguments {
    /// Configuration file (TOML); docs/configuration.md lists every key [default: /etc/azure-cni/agent.toml, if it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    overrides: Overrides,
}

impl Arguments {
    /// Reads the configuration: the file as it is now, with the command line's overrides.
    fn read_config(&self) -> Result<AgentConfig, ConfigError> {
        AgentConfig::load(self.config.as_deref())?.with_overrides(self.overrides.clone())
    }
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let config = arguments.read_config()?;
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .with_max_level(LevelFilter::from(config.log_level))
        .init();
    // Calls mostly wait for the kernel: two threads keep a small node's other core free.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    // Accept calls on one of the two. This thread would have to be woken for every call, and to wake one of them to serve it.
    let agent = runtime.spawn(run(arguments, config));
    runtime.block_on(agent)?
}

async fn run(arguments: Arguments, config: AgentConfig) -> anyhow::Result<()> {
    let socket = config.socket.clone();
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut hung_up = signal(SignalKind::hangup())?;

    server::ensure_not_in_use(&socket)?;
    // The start may have to wait for the source of the pool.
    let agent = tokio::select! {
        started = start::start(config) => started?,
        _ = terminated.recv() => return Ok(()),
        _ = interrupted.recv() => return Ok(()),
    };
    let listener = server::listen(&socket)?;
    let calls = TaskTracker::new();
    tokio::spawn(background::run(agent.clone()));
    // It waits for plugins: calls need not wait for it.
    tokio::spawn({
        let agent = agent.clone();
        async move { conflist::sync(&agent, Absent::Write).await }
    });
    let reload = async {
        while hung_up.recv().await.is_some() {
            background::reload(&agent, arguments.read_config()).await;
        }
    };
    tokio::select! {
        () = server::serve(agent.clone(), listener, &calls) => {}
        () = reload => {}
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
    }
    // A socket that no process serves would make plugins wait.
    let _ = std::fs::remove_file(&socket);
    calls.close();
    if tokio::time::timeout(LAST_CALLS_TIMEOUT, calls.wait()).await.is_err() {
        tracing::warn!(
            calls = calls.len(),
            "ending before these calls are done: they took longer than {LAST_CALLS_TIMEOUT:?}"
        );
    }
    tracing::info!("ended; the data path goes on");
    Ok(())
}
