//! The operator's command: asks the agent on its socket and shows the answer, for people or as JSON.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use azure_cni_agent::api::{self, DEFAULT_SOCKET, DropCount, EndpointInfo, Request, Status};
use clap::{Parser, Subcommand};
use comfy_table::{Table, presets};
use serde_json::Value;

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
    /// Uplink, pool, connection table, and whatever is wrong; exits with 1 if anything is
    Status,
    /// The pods attached here, with addresses and interface
    Endpoints,
    /// Packets dropped, by reason; all reasons with --all
    Drops {
        /// Also the reasons for which nothing was dropped
        #[arg(long)]
        all: bool,
    },
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
    };
    let answer = api::call(&arguments.socket, &request, TIMEOUT)
        .with_context(|| format!("no answer from the agent on {}", arguments.socket.display()))?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&answer)?);
    }
    match arguments.command {
        Command::Status => {
            let status: Status = serde_json::from_value(answer)?;
            if !arguments.json {
                show_status(&status);
            }
            return Ok(if status.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::Endpoints if !arguments.json => show_endpoints(answer)?,
        Command::Drops { all } if !arguments.json => show_drops(answer, all)?,
        _ => {}
    }
    Ok(ExitCode::SUCCESS)
}

fn show_status(status: &Status) {
    println!("agent      {} (map layout {})", status.version, status.abi);
    let primaries = joined([Some(status.primary), status.primary6].into_iter().flatten());
    println!("uplink     {} with {primaries}, programs attached by {}", status.uplink, status.attach_mode);
    for (family, pool) in [("addresses ", Some(&status.pool)), ("IPv6      ", status.pool6.as_ref())] {
        if let Some(pool) = pool {
            println!("{family} {} leased, {} free, {} in all", pool.leased, pool.free, pool.total);
        }
    }
    println!("endpoints  {}", status.endpoints);
    println!("flows      {} of {}", status.flows.used, status.flows.max);
    for problem in &status.problems {
        println!("problem    {problem}");
    }
}

fn joined(addresses: impl IntoIterator<Item = IpAddr>) -> String {
    addresses.into_iter().map(|address| address.to_string()).collect::<Vec<_>>().join(" ")
}

fn show_endpoints(answer: Value) -> anyhow::Result<()> {
    let endpoints: Vec<EndpointInfo> = serde_json::from_value(answer)?;
    let mut table = table(["ADDRESSES", "HOST INTERFACE", "INDEX", "POD MAC", "CONTAINER", "INTERFACE", "NETWORK"]);
    for endpoint in endpoints {
        table.add_row([
            joined(endpoint.addresses),
            endpoint.host_interface,
            endpoint.ifindex.to_string(),
            endpoint.pod_mac,
            endpoint.attachment.container_id.to_string(),
            endpoint.attachment.ifname.to_string(),
            endpoint.attachment.network.to_string(),
        ]);
    }
    println!("{table}");
    Ok(())
}

fn show_drops(answer: Value, all: bool) -> anyhow::Result<()> {
    let drops: Vec<DropCount> = serde_json::from_value(answer)?;
    let mut table = table(["NUMBER", "REASON", "PACKETS", "MEANING"]);
    for drop in drops.iter().filter(|drop| all || drop.packets > 0) {
        table.add_row([&drop.number.to_string(), &drop.name, &drop.packets.to_string(), &drop.meaning]);
    }
    if table.row_iter().next().is_none() {
        println!("nothing was dropped");
        return Ok(());
    }
    println!("{table}");
    Ok(())
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header);
    table
}
