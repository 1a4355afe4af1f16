//! The daemon: reads its configuration, starts the agent and serves until it is told to stop. The data path goes on.

use std::path::PathBuf;

use azure_cni_agent::agent::Agent;
use azure_cni_agent::config::{AgentConfig, Overrides};
use azure_cni_agent::{maintain, server};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::LevelFilter;

/// Attaches pods to the virtual network through eBPF.
///
/// Runs on every VM, as root. Answers the azure-cni plugin on a Unix socket, keeps leases and programs, and leaves the
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

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let config = AgentConfig::load(arguments.config.as_deref())?.with_overrides(arguments.overrides)?;
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_max_level(LevelFilter::from(config.log_level))
        .init();
    // Calls mostly wait for the kernel: two threads keep a small node's other core free.
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(run(config))
}

async fn run(config: AgentConfig) -> anyhow::Result<()> {
    let socket = config.socket.clone();
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;

    server::expect_unserved(&socket)?;
    let agent = Agent::start(config).await?;
    let listener = server::listen(&socket)?;
    tokio::spawn(maintain::maintain(agent.clone()));
    tokio::select! {
        () = server::serve(agent, listener) => {}
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
    }
    // Nobody shall find a socket on which nobody answers.
    let _ = std::fs::remove_file(&socket);
    tracing::info!("ended; the data path goes on");
    Ok(())
}
