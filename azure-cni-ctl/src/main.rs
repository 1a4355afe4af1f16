//! The operator's command: sends a request to the agent's socket and shows the answer as text or as JSON.

mod show;

use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use azure_cni_api::socket::{self, DEFAULT_SOCKET, Request, Status};
use clap::{Parser, Subcommand};
use serde::Deserialize;
use serde_json::Value;

/// How long to wait for the agent's answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Shows the state of azure-cni-agent on this VM.
#[derive(Debug, Parser)]
#[command(name = "azure-cni-ctl", version)]
struct Arguments {
    /// The agent's Unix socket
    #[arg(long, global = true, value_name = "PATH", env = "AZURE_CNI_SOCKET", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,
    /// Print the answer as JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show uplink, address pool, use of the tables, and problems; exits with 1 if there are any problems
    Status,
    /// List the attached pods with their addresses and interfaces
    Endpoints,
    /// Count dropped packets by reason
    Drops {
        /// Include reasons without drops
        #[arg(long)]
        all: bool,
    },
    /// List recently refused flows by pod and destination
    Events,
    /// Show the latency of CNI calls and of their steps since the agent started
    Steps,
}

impl Command {
    fn request(&self) -> Request {
        match self {
            Self::Status => Request::Status,
            Self::Endpoints => Request::Endpoints,
            Self::Drops { .. } => Request::Drops,
            Self::Events => Request::Events,
            Self::Steps => Request::Steps,
        }
    }

    /// The answer as text.
    fn show(&self, answer: Value) -> serde_json::Result<String> {
        Ok(match self {
            Self::Status => show::status(&serde_json::from_value(answer)?),
            Self::Endpoints => show::endpoints(serde_json::from_value(answer)?),
            Self::Drops { all } => show::drops(serde_json::from_value(answer)?, *all),
            Self::Events => show::events(serde_json::from_value(answer)?),
            Self::Steps => show::steps(serde_json::from_value(answer)?),
        })
    }

    fn exit_code(&self, answer: &Value) -> serde_json::Result<ExitCode> {
        let has_problems = matches!(self, Self::Status) && !Status::deserialize(answer)?.problems.is_empty();
        Ok(if has_problems { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            // `eprintln!` would panic if nobody reads it any more.
            let _ = writeln!(std::io::stderr(), "azure-cni-ctl: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let command = &arguments.command;
    let answer = socket::call(&arguments.socket, &command.request(), TIMEOUT)
        .with_context(|| format!("no answer from the agent on {}", arguments.socket.display()))?;
    let code = command.exit_code(&answer)?;
    let text = if arguments.json { serde_json::to_string_pretty(&answer)? } else { command.show(answer)? };
    print(&text)?;
    Ok(code)
}

/// Writes the text to standard output. A reader that has seen enough, such as `head`, is no error.
fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("the answer could not be written"),
        _ => Ok(()),
    }
}
