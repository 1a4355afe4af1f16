//! The benchmark: how fast pods are through this project, against what it replaces and against a bare veth pair.
//!
//! All arms run in one network of namespaces, in interleaved rounds, so that whatever else the machine does meets all of
//! them alike; they are compared pair by pair within a round. Nothing is left behind however it ends, Ctrl-C included:
//! namespaces, mounts and children belong to this process, and the kernel takes them down with it.

// What is measured, and on what.
mod options;
mod plan;
mod reference;
mod testbed;
mod uplinks;
mod wiring;

// Measuring.
mod calls;
mod figure;
mod leases;
mod load;
mod programs;
mod rounds;

// What came of it.
mod machine;
mod progress;
mod report;
mod statistics;

use std::{fs, process::ExitCode, time::Duration};

use anyhow::{Context, Result, ensure};
use azure_cni_tests::{Fabric, probe};
use clap::Parser;

use load::Cores;
use machine::Machine;
use options::Options;
use plan::Plan;
use progress::Progress;
use report::Report;
use testbed::Testbed;

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nbench failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let plan = Plan::of(options);
    ensure!(!plan.is_empty(), "nothing is called like that: `bench --list` shows what there is to measure");
    if options.list {
        print!("{plan}");
        return Ok(());
    }
    let (client, server) = probe::two_cores()?;
    let cores = Cores { client, server };
    let machine = Machine::look(&options.cni_plugins, cores)?;
    println!("{machine}");

    let progress = Progress::start();
    progress.note("building a VNet with three VMs for each way to attach pods");
    // Service prefixes are known, so that all egress of ours may take the short way.
    let net = Fabric::builder()
        .vms(testbed::VMS + calls::VMS)
        .pool(plan::MOST_PODS)
        .without_agents()
        .agent_toml("routing.service_prefixes = ['10.0.0.0/16']\npool.cooldown_secs = 0")
        .start()?;
    let testbed = Testbed::build(&net, &plan, &options.cni_plugins)?;
    let wirings = testbed.check_wirings()?;
    println!("{}", report::wirings(&wirings));

    let results = rounds::run(&plan, &testbed, cores, &progress)?;
    let programs = programs::measure(&net, &plan, &progress)?;
    let leases = leases::measure(&plan)?;
    let calls = calls::measure(&net, testbed::SPARE, &plan, &options.cni_plugins, &progress)?;
    progress.clear();

    let report = Report { machine, plan, wirings, results, programs, leases, calls, took: progress.elapsed() };
    println!("{}", report.text());
    if let Some(file) = &options.json {
        let json = serde_json::to_string_pretty(&report.json()).context("write the report as JSON")?;
        fs::write(file, json + "\n").with_context(|| format!("write {}", file.display()))?;
    }
    Ok(())
}

/// For people.
fn seconds(duration: Duration) -> String {
    let secs = duration.as_secs();
    if secs < 60 { format!("{secs} s") } else { format!("{} min {:02} s", secs / 60, secs % 60) }
}
