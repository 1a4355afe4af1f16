//! The operator's command: asks the agent on its socket and shows the answer, for people or as JSON.

mod show;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use azure_cni_api::socket::{self, DEFAULT_SOCKET, Request, Status};
use clap::{Parser, Subcommand};

/// How long the agent may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Shows what azure-cni-agent on this VM does.
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
    /// Uplink, pool, fill of the tables, and whatever is wrong; exits with 1 if anything is
    Status,
    /// The pods attached here, with addresses and interface
    Endpoints,
    /// Packets dropped, by reason; all reasons with --all
    Drops {
        /// Also the reasons for which nothing was dropped
        #[arg(long)]
        all: bool,
    },
    /// Flows that were refused of late, by pod and destination
    Events,
    /// How long calls of the runtime and their steps have taken since the agent started
    Steps,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("azure-cni-ctl: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let request = match arguments.command {
        Command::Status => Request::Status,
        Command::Endpoints => Request::Endpoints,
        Command::Drops { .. } => Request::Drops,
        Command::Events => Request::Events,
        Command::Steps => Request::Steps,
    };
    let answer = socket::call(&arguments.socket, &request, TIMEOUT)
        .with_context(|| format!("no answer from the agent on {}", arguments.socket.display()))?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&answer)?);
    }
    match arguments.command {
        Command::Status => {
            let status: Status = serde_json::from_value(answer)?;
            if !arguments.json {
                show::status(&status);
            }
            return Ok(if status.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::Endpoints if !arguments.json => show::endpoints(answer)?,
        Command::Drops { all } if !arguments.json => show::drops(answer, all)?,
        Command::Events if !arguments.json => show::events(answer)?,
        Command::Steps if !arguments.json => show::steps(answer)?,
        _ => {}
    }
    Ok(ExitCode::SUCCESS)
}
