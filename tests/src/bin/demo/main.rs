//! The demo: a VNet out of namespaces, the real agent and plugin on it, real traffic, and a table of what came of it.
//!
//! It is also a check: the exit status says whether every path behaved as promised.

mod interrupt;
mod keep;
mod map;
mod measure;
mod paths;
mod progress;
mod report;
mod table;

use std::{
    io::{IsTerminal, stdout},
    process::ExitCode,
};

use anyhow::{Context, Result};
use azure_cni_tests::{Baseline, Fabric, Pod, Station, platform::Service};
use clap::Parser;
use interrupt::Interrupt;
use measure::{Effort, Measured};
use progress::Progress;
use report::Report;

/// Builds a virtual network on this machine, sends real traffic through azure-cni-ebpf, and shows the result.
///
/// The network is made of network namespaces: two VMs, each with an agent and two pods attached by the CNI plugin, a
/// host in a peered VNet, and an Internet host that can answer only the VMs' primary addresses. Nothing of the machine
/// itself is touched, and everything is gone when the demo ends, however it ends.
#[derive(Parser)]
#[command(
    name = "demo",
    after_help = "The exit status is 0 if every path behaves as promised, 1 otherwise.\n\n\
                  Needs root, and the binaries next to this one (or in $AZURE_CNI_BIN_DIR)."
)]
struct Options {
    /// Leave the network standing until Ctrl-C, and say how to look around
    #[arg(long)]
    keep: bool,
    /// Measure briefly: everything in less than 15 seconds
    #[arg(long)]
    quick: bool,
    /// Print the result as JSON on standard output; everything else goes to standard error
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let interrupt = match Interrupt::install() {
        Ok(interrupt) => interrupt,
        Err(error) => return fail(&error),
    };
    match run(&options, &interrupt) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => fail(&error),
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("demo failed: {error:#}");
    ExitCode::FAILURE
}

fn run(options: &Options, interrupt: &Interrupt) -> Result<bool> {
    let progress = Progress::start();
    let net = progress.step("a VNet with two VMs, a peered host and an Internet host", || {
        // Service prefixes are known, so that all egress may take the short way.
        Fabric::builder()
            .vms(2)
            .service(Service::WireServer)
            .without_agents()
            .agent_toml("routing.service_prefixes = ['10.0.0.0/16']")
            .start()
    })?;
    for vm in net.vms() {
        progress.step(&format!("azure-cni-agent on {}", vm.name()), || vm.start_agent())?;
    }
    let pods = progress.step("two pods on each VM, by the CNI plugin", || {
        net.vms().iter().map(|vm| Ok([vm.add_pod("a")?, vm.add_pod("b")?])).collect::<Result<Vec<[Pod; 2]>>>()
    })?;
    if !options.json {
        println!("\n{}", map::draw(&net, &pods));
    }

    let effort = if options.quick { Effort::QUICK } else { Effort::FULL };
    let bare = Baseline::beside(&net).context("the baseline")?;
    let bare = progress.step("measuring a bare veth pair, the baseline", || measure::bare(&bare, effort))?;
    let mut measured = Vec::new();
    for path in paths::all(&net, &pods) {
        let text = format!("measuring {}", path.name);
        let good = |measured: &Measured| measured.faults().is_empty();
        measured.push(progress.show(&text, good, || measure::path(&path, effort)));
    }

    let report = Report { bare, paths: measured };
    if options.json {
        println!("{}", report.json());
    } else {
        println!("\n{}", report.table(stdout().is_terminal()));
        for vm in net.vms() {
            let drops = vm.ctl(&["drops"]).with_context(|| format!("the drops of {}", vm.name()))?;
            println!("Dropped by the programs of {}:\n{}", vm.name(), indent(&drops));
        }
        println!("{}", report.verdict());
    }
    let ok = report.faults().is_empty();
    eprintln!("Took {:.1} s.", progress.elapsed().as_secs_f64());
    if options.keep {
        eprintln!("\n{}", keep::guide(&net, &pods)?);
        interrupt.wait(ok);
    }
    Ok(ok)
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}
