//! The benchmark: how fast pods are through this project, against what it replaces and against a bare veth pair.
//!
//! All variants run in one network of namespaces, in interleaved rounds, so that the machine's other work disturbs all of
//! them equally. They are compared pair by pair within a round. Nothing is left behind however it ends, Ctrl-C included:
//! namespaces, mounts and children belong to this process, and the kernel takes them down with it.

// What is measured, and on what.
mod options;
mod path;
mod plan;
mod subject;
mod testbed;
mod variant;

// Measuring.
mod calibration;
mod calls;
mod cores;
mod leases;
mod load;
mod programs;
mod restart;
mod rounds;
mod scale;

// Samples, and what they say.
mod collect;
mod figure;
mod record;
mod statistics;
mod unit;

// What came of it.
mod estimate;
mod machine;
mod progress;
mod report;

use std::{fs, process::ExitCode};

use anyhow::{Context, Result, ensure};
use azure_cni_tests::{Fabric, probe};
use clap::Parser;

use collect::Collector;
use cores::Cores;
use machine::Machine;
use options::Options;
use plan::Plan;
use progress::{Part, Progress};
use report::{Disturbed, FORMAT, Method, Report};
use scale::Runner;
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
    // Whether it can be read is known before ten minutes of measuring.
    let earlier = options.compare.as_deref().map(Report::read).transpose()?;
    let report = match &options.from {
        Some(file) => {
            let report = Report::read(file)?;
            println!("{}", report.machine);
            report
        }
        None => measure(options, &plan)?,
    };
    println!("{}", report.text());
    if let Some(file) = &options.json {
        let json = serde_json::to_string_pretty(&report).context("write the report as JSON")?;
        fs::write(file, json + "\n").with_context(|| format!("write {}", file.display()))?;
    }
    if let Some(file) = &options.summary {
        fs::write(file, report.summary()?).with_context(|| format!("write {}", file.display()))?;
    }
    if let Some(file) = &options.html {
        fs::write(file, report.html()).with_context(|| format!("write {}", file.display()))?;
    }
    if let Some(earlier) = &earlier {
        let changes = report.changes_since(earlier)?;
        println!("{}", changes.text());
        changes.ensure_nothing_is_worse()?;
    }
    Ok(())
}

fn measure(options: &Options, plan: &Plan) -> Result<Report> {
    let (client, server) = probe::two_cores()?;
    let cores = Cores { client, server };
    let machine = Machine::observe(&options.cni_plugins, cores)?;
    println!("{machine}");

    let progress = Progress::start(estimate::of(plan));
    progress.step("making a network of namespaces");
    // Paths first, then what has VMs of its own.
    let for_calls = testbed::vms(plan);
    let for_scale = for_calls + calls::vms(plan);
    // A network has a VM, needed or not.
    let net = Fabric::builder()
        .vms((for_scale + scale::vms(plan)).max(1) as u8)
        .pool(options::MAX_PODS)
        .without_agents()
        .agent_toml("pool.cooldown_secs = 0")
        .start()?;
    let mut collector = Collector::default();
    // What starts processes comes first: starting one takes longer the more memory this one has.
    calls::measure(&net, for_calls, plan, &options.cni_plugins, &mut collector, &progress)?;
    leases::measure(plan, &mut collector)?;
    programs::measure(&net, plan, &mut collector, &progress)?;

    progress.begin(Part::Building);
    progress.step("building the VMs of each way to attach pods");
    let testbed = Testbed::build(&net, plan, &options.cni_plugins)?;
    let interfaces = testbed.check_wirings()?;
    rounds::run(plan, &testbed, cores, &mut collector, &progress)?;
    let runner = Runner { net: &net, plugins: &options.cni_plugins, plan, cores, progress: &progress };
    scale::measure(&runner, &net.vms()[for_scale..], &mut collector)?;
    restart::measure(plan, &testbed, cores, &mut collector, &progress)?;
    progress.clear();

    let disturbed = Disturbed::of(&collector.disturbed);
    let (records, distributions) = collector.finish();
    let method = Method {
        mode: plan.mode,
        rounds: plan.rounds,
        seconds_per_load: plan.duration.as_secs_f64(),
        seconds_taken: progress.elapsed().as_secs_f64(),
    };
    Ok(Report { format: FORMAT, machine, method, interfaces, disturbed, records, distributions })
}
