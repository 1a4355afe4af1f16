//! CNI calls as a runtime makes them: the plugin's whole run, from its start to its end, one after another and all at once.
//!
//! Both plugins are run alike, on VMs of their own that carry no traffic. Every round fills the VM with pods and empties it
//! again; arms take turns within a round.

mod node;
mod run;

use std::path::Path;

use anyhow::{Context, Result};
use azure_cni_agent::api::StepTime;
use azure_cni_tests::Fabric;
use serde::Serialize;

use crate::{
    figure::Better,
    plan::{Arm, Plan},
    progress::Progress,
    statistics::{Comparison, Summary, quantile},
};
use node::{Caller, Node};
use run::{at_once, one_by_one, repeated};

/// VMs that the fabric must have besides those of the lanes.
pub(crate) const VMS: u8 = 2;

/// What was found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Calls {
    pub(crate) pods: usize,
    pub(crate) figures: Vec<CallFigure>,
    /// Of the agent with all pods attached.
    pub(crate) agent_resident_bytes: Option<u64>,
    /// STATUS with all pods attached, one call after another: nanoseconds of each run of the plugin, in order.
    pub(crate) status: Vec<f64>,
    /// A program that does nothing, in the place of the plugin: likewise.
    pub(crate) nothing: Vec<f64>,
    /// Of all calls of all rounds, by the agent's own account.
    pub(crate) steps: Vec<StepTime>,
}

/// One figure of both arms, a sample for each round.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CallFigure {
    pub(crate) verb: &'static str,
    pub(crate) what: What,
    /// Nanoseconds.
    pub(crate) arms: Vec<ArmSamples>,
    /// Ours to the reference's.
    pub(crate) ratio: Option<Comparison>,
}

#[derive(Debug, Serialize)]
pub(crate) struct ArmSamples {
    pub(crate) arm: Arm,
    pub(crate) samples: Vec<f64>,
    pub(crate) summary: Summary,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum What {
    /// Of one call, when each waits for the one before.
    Median,
    /// Likewise.
    Tail,
    /// From the start of the first call to the end of the last, when all begin at once.
    AllAtOnce,
}

impl What {
    const ALL: [Self; 3] = [Self::Median, Self::Tail, Self::AllAtOnce];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Median => "one at a time, p50",
            Self::Tail => "one at a time, p99",
            Self::AllAtOnce => "all at once, the last one's end",
        }
    }

    fn of(self, calls: &VerbTimes) -> f64 {
        match self {
            Self::Median => quantile(&calls.sorted, 0.5),
            Self::Tail => quantile(&calls.sorted, 0.99),
            Self::AllAtOnce => calls.at_once,
        }
    }
}

/// Of one verb in one round, nanoseconds.
struct VerbTimes {
    /// Each call's, when each waits for the one before.
    sorted: Vec<f64>,
    at_once: f64,
}

/// ADD and DEL of one round.
type Verbs = [VerbTimes; 2];

/// Of one arm in one round.
struct Round {
    verbs: Verbs,
    /// With all pods attached, where there is an agent.
    resident: Option<u64>,
    status: Vec<f64>,
    nothing: Vec<f64>,
}

/// How often in a round what is asked again and again is asked.
const REPEATED: usize = 50;

const VERBS: [&str; 2] = ["ADD", "DEL"];

/// `vms`: those that no lane uses.
pub(crate) fn measure(
    net: &Fabric,
    vms: [usize; VMS as usize],
    plan: &Plan,
    plugins: &Path,
    progress: &Progress,
) -> Result<Option<Calls>> {
    if !plan.calls {
        return Ok(None);
    }
    progress.note("making namespaces for the pods of CNI calls");
    let [ours, theirs] = vms.map(|index| net.vm(index));
    let mut nodes = Vec::new();
    if plan.has(Arm::Ours) {
        nodes.push((Arm::Ours, Node::new(ours, Caller::ours(ours)?, plan.pods)?));
    }
    if plan.has(Arm::Bridge) {
        nodes.push((Arm::Bridge, Node::new(theirs, Caller::bridge(theirs, plugins)?, plan.pods)?));
    }
    let mut rounds: Vec<(Arm, Vec<Verbs>)> = nodes.iter().map(|(arm, _)| (*arm, Vec::new())).collect();
    let (mut agent_resident_bytes, mut status, mut nothing) = (None, Vec::new(), Vec::new());
    for number in 0..plan.call_rounds {
        for ((arm, node), (_, rounds)) in nodes.iter().zip(&mut rounds) {
            progress.note(&format!("CNI calls, round {}/{}, {}", number + 1, plan.call_rounds, arm.title()));
            let found = round(node).with_context(|| format!("CNI calls of {}", arm.title()))?;
            rounds.push(found.verbs);
            agent_resident_bytes = agent_resident_bytes.max(found.resident);
            status.extend(found.status);
            nothing.extend(found.nothing);
        }
    }
    let steps = nodes.iter().map(|(_, node)| node.steps()).collect::<Result<Vec<_>>>()?.concat();
    Ok(Some(Calls { pods: plan.pods, figures: figures(&rounds), agent_resident_bytes, status, nothing, steps }))
}

fn round(node: &Node) -> Result<Round> {
    let add_each = one_by_one(node, "ADD")?;
    let resident = node.agent_resident_bytes()?;
    // Of the reference only a later version answers STATUS.
    let status = if resident.is_some() { repeated(node, "STATUS", REPEATED)? } else { Vec::new() };
    let nothing = run::nothing(node, REPEATED)?;
    let del_each = one_by_one(node, "DEL")?;
    let add_all = at_once(node, "ADD")?;
    let del_all = at_once(node, "DEL")?;
    let times = |each: Vec<f64>, at_once| {
        let mut sorted = each;
        sorted.sort_by(f64::total_cmp);
        VerbTimes { sorted, at_once }
    };
    Ok(Round { verbs: [times(add_each, add_all), times(del_each, del_all)], resident, status, nothing })
}

fn figures(rounds: &[(Arm, Vec<Verbs>)]) -> Vec<CallFigure> {
    let mut figures = Vec::new();
    for (index, verb) in VERBS.into_iter().enumerate() {
        for what in What::ALL {
            let samples =
                |rounds: &[Verbs]| -> Vec<f64> { rounds.iter().map(|round| what.of(&round[index])).collect() };
            let arms: Vec<ArmSamples> = rounds
                .iter()
                .map(|(arm, rounds)| {
                    let samples = samples(rounds);
                    ArmSamples { arm: *arm, summary: Summary::of(&samples), samples }
                })
                .collect();
            let of = |arm| arms.iter().find(|samples| samples.arm == arm);
            let ratio = of(Arm::Ours)
                .zip(of(Arm::Bridge))
                .map(|(ours, theirs)| Comparison::of(&ours.samples, &theirs.samples, Better::Lower));
            figures.push(CallFigure { verb, what, arms, ratio });
        }
    }
    figures
}
