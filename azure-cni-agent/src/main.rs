//! The daemon: reads its configuration, starts the agent and serves until it gets SIGTERM or SIGINT. SIGHUP makes it read
//! its configuration again; a change of the node that only a start can apply makes it start again. The data path goes on without it.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use azure_cni_agent::config::load::Overrides;
use azure_cni_agent::config::{AgentConfig, ConfigError};
use azure_cni_agent::conflist::{self, Absent};
use azure_cni_agent::presence::Presence;
use azure_cni_agent::start_again::start_again;
use azure_cni_agent::{background, only_agent, server, start};
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
    let _only_agent = only_agent::claim()?;
    // The start may have to wait for the source of the pool.
    let mut agent = tokio::select! {
        started = start::start(config) => started?,
        _ = terminated.recv() => return Ok(()),
        _ = interrupted.recv() => return Ok(()),
    };
    let listener = server::listen(&socket)?;
    let (presence, calls) = (Arc::new(Presence::of(agent.clone())), TaskTracker::new());
    let serving = tokio::spawn(server::serve(presence.clone(), listener, calls.clone()));
    loop {
        let background = tokio::spawn(background::run(agent.clone()));
        // It waits for plugins: calls need not wait for it.
        let publishing = tokio::spawn({
            let agent = agent.clone();
            async move { conflist::sync(&agent, Absent::Write).await }
        });
        let reload = async {
            while hung_up.recv().await.is_some() {
                background::reload(&agent, arguments.read_config()).await;
            }
        };
        let why = tokio::select! {
            why = agent.node_watch.start_demanded() => why,
            () = reload => break,
            _ = terminated.recv() => break,
            _ = interrupted.recv() => break,
        };
        tracing::warn!(why, "starting again");
        for task in [background, publishing] {
            task.abort();
            let _ = task.await;
        }
        agent = tokio::select! {
            started = start_again(&presence, agent, why, LAST_CALLS_TIMEOUT) => started?,
            _ = terminated.recv() => break,
            _ = interrupted.recv() => break,
        };
    }
    serving.abort();
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
