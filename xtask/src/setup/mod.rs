//! Brings a machine to where it can build and test, from whatever it has.
//!
//! Probe (`machine`), plan (pure), announce, perform (`steps`); then probe again, because a step may fail and leave another
//! way. Nothing is installed that was not announced. What cannot be done here ends as the commands that do it.

mod plan;
mod steps;

use anyhow::{Context as _, Result, bail};

pub(crate) use self::plan::Purpose;
use self::plan::{Obstacle, Plan, Step};
use crate::{
    machine::{Facts, LINKER_VERSION, Linker, Lists, candidates, probe},
    toolchain::Toolchain,
    workspace::Workspace,
};

/// Installs what the purpose needs and the machine lacks. Returns what the machine then has.
pub(crate) fn ensure(workspace: &Workspace, purpose: Purpose) -> Result<Facts> {
    let mut facts = probe(workspace);
    let mut announced = Vec::new();
    let mut last = None;
    loop {
        let plan = match plan::plan(&facts, purpose) {
            Ok(plan) => plan,
            // What was announced is still to be done once there is a network.
            Err(obstacle @ Obstacle::NoLists(_)) => {
                return Err(stopped(&Plan { steps: announced }, &facts)).context(obstacle);
            }
            Err(obstacle) => return Err(obstacle).context("this machine cannot be set up"),
        };
        let Some(step) = plan.steps.first().cloned() else { break };
        if !announced.ends_with(&plan.steps) {
            announce(&plan);
            announced.clone_from(&plan.steps);
        }
        if last.as_ref() == Some(&step) {
            return Err(stopped(&plan, &facts)).context(format!("{step} went well, yet it is still missing"));
        }
        if step.needs_root() && !facts.root {
            return Err(stopped(&plan, &facts)).context("installing packages needs root");
        }
        let outcome = steps::perform(&step, workspace);
        facts = facts.probed_again(probe(workspace));
        if let Err(error) = outcome {
            // These leave another way; anything else ends here.
            match step {
                Step::AddRustSrc { toolchain } | Step::TryBuildStd { toolchain } => facts.given_up.push(toolchain),
                Step::RefreshPackageLists => facts.lists = Lists::AsTheyWere(candidates()),
                _ => return Err(stopped(&plan, &facts)).context(error),
            }
            eprintln!("{error:#}\nLooking for another way.");
            continue;
        }
        if step == Step::RefreshPackageLists {
            facts.lists = Lists::Fresh(candidates());
        }
        last = Some(step);
    }
    let (toolchain, linker) = require(&facts)?;
    eprintln!("==> set up: bpf-linker {}, `core` for eBPF from {toolchain}", linker.version);
    Ok(facts)
}

fn announce(plan: &Plan) {
    eprintln!("This machine is not set up yet. To do:");
    for step in &plan.steps {
        eprintln!("  - {step}");
        if let Step::InstallPackages(packages) = step {
            for package in packages {
                eprintln!("      {:<24} {}", package.name, package.reason);
            }
        }
    }
}

/// The end of a set-up that cannot go on: what a person can type instead.
fn stopped(plan: &Plan, facts: &Facts) -> anyhow::Error {
    let mut commands: Vec<String> = plan.steps.iter().filter_map(|step| step.command_line(facts.root)).collect();
    commands.push("cargo xtask setup".to_owned());
    anyhow::anyhow!("set-up is not complete; these commands remain:\n\n  {}\n", commands.join("\n  "))
}

/// What compiles and links the programs; refuses on a machine that was not set up.
pub(crate) fn require(facts: &Facts) -> Result<(Toolchain, &Linker)> {
    let linker = facts.linker.as_ref().context("bpf-linker is not installed: run `cargo xtask setup`")?;
    if !linker.suits() {
        bail!("bpf-linker is {}, but {LINKER_VERSION} is needed: run `cargo xtask setup`", linker.version);
    }
    let toolchain =
        Toolchain::choose(facts).context("no compiler here has `core` for eBPF: run `cargo xtask setup`")?;
    Ok((toolchain, linker))
}
