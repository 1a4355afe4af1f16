//! CNI calls as a runtime makes them: the plugin's whole run, from its start to its end, one after another and all at once.
//!
//! All plugins run in the same way, on VMs of their own that carry no traffic. Every round fills the VM to each number of pods and
//! empties it again; variants take turns within a round.

mod node;
mod run;
mod sampler;
mod steps;

use std::path::Path;

use anyhow::{Context, Result};
use azure_cni_tests::Fabric;

use crate::{
    collect::Collector,
    plan::Plan,
    progress::{Part, Progress},
    record::{At, Axis},
    statistics::{Summary, quantile, quantiles},
    subject::Topic,
    testbed::Reference,
    unit::Unit,
    variant::Variant,
};
use node::{Caller, Node};
use run::{all_at_once, repeated, replaced};
use sampler::Sampler;
use steps::{How, StepLog};

/// The variants that are compared.
const VARIANTS: [Variant; 3] = [Variant::Ours, Variant::Bridge, Variant::Ptp];

/// VMs that the fabric must have for a plan besides the others.
pub(crate) fn vms(plan: &Plan) -> usize {
    if plan.has(Topic::Calls) { variants(plan).count() } else { 0 }
}

/// How many pods the VM has, or gets; the plan's most besides.
const PLACES: [u8; 3] = [1, 10, 50];
/// How often one pod is taken away and put back with so many on the VM: more often at the last place.
const REPLACED: usize = 10;
const REPLACED_OF_ALL: usize = 50;
/// How often in a round what is asked again and again is asked.
const REPEATED: usize = 50;

/// `first_vm`: of those that are for this.
pub(crate) fn measure(
    net: &Fabric,
    first_vm: usize,
    plan: &Plan,
    plugins: &Path,
    collector: &mut Collector,
    progress: &Progress,
) -> Result<()> {
    if !plan.has(Topic::Calls) {
        return Ok(());
    }
    progress.begin(Part::Calls);
    progress.step("making namespaces for the pods of CNI calls");
    let mut nodes = Vec::new();
    for (index, variant) in variants(plan).enumerate() {
        let vm = net.vm(first_vm + index);
        let caller = match Reference::of(variant) {
            None => Caller::ours(vm)?,
            Some(reference) => Caller::reference(vm, plugins, reference)?,
        };
        nodes.push((variant, Node::new(vm, caller, usize::from(plan.pods))?));
    }
    for round in 0..plan.short_rounds() {
        for (variant, node) in &nodes {
            progress.step(&format!("round {}/{}  CNI calls, {}", round + 1, plan.short_rounds(), variant.title()));
            one_round(*variant, node, collector).with_context(|| format!("CNI calls of {}", variant.title()))?;
        }
    }
    Ok(())
}

pub(crate) fn variants(plan: &Plan) -> impl Iterator<Item = Variant> {
    VARIANTS.into_iter().filter(|variant| plan.is_called(*variant))
}

fn one_round(variant: Variant, node: &Node, collector: &mut Collector) -> Result<()> {
    let most = node.namespaces.len();
    let places = PLACES.into_iter().map(usize::from).filter(|place| *place < most).chain([most]);
    let mut steps = StepLog::begin(node);
    for pods in places {
        let at = Some(At { axis: Axis::Pods, value: pods as u32 });
        let mut sampler = Sampler { variant, at, collector };
        let namespaces = &node.namespaces[..pods];
        let spent_before = node.agent_processor_time()?;
        let add = all_at_once(node, "ADD", namespaces)?;
        if let (Some(before), Some(after)) = (spent_before, node.agent_processor_time()?) {
            let each = (after - before).as_nanos() as f64 / pods as f64;
            let title = "  agent's processor time, per ADD";
            sampler.calibrated_time("calls/add-agent-cost", title, each);
        }
        steps.take(How::AllAtOnce, node, &mut sampler);
        let one_by_one = replaced(node, namespaces, if pods == most { REPLACED_OF_ALL } else { REPLACED })?;
        steps.take(How::OneByOne, node, &mut sampler);
        sampler.quantiles("calls/add", "ADD, one at a time", one_by_one.add.clone());
        sampler.quantiles("calls/del", "DEL, one at a time", one_by_one.del);
        if pods == most {
            whole_node(node, one_by_one.add, Sampler { variant, at: None, collector: &mut *sampler.collector })?;
        }
        let del = all_at_once(node, "DEL", namespaces)?;
        steps.take(How::AllAtOnce, node, &mut sampler);
        for (verb, took) in [("ADD", add), ("DEL", del)] {
            let id = format!("calls/{}", verb.to_lowercase());
            let title = format!("{verb}, all at once, the last one's end");
            sampler.sample(&format!("{id}-all"), &title, Unit::Nanoseconds, took);
            let rate = pods as f64 / (took / 1e9);
            sampler.sample(&format!("{id}-rate"), &format!("  {verb}, pods per second"), Unit::PodsPerSecond, rate);
        }
    }
    Ok(())
}

/// With all pods attached. `add`: nanoseconds.
fn whole_node(node: &Node, mut add: Vec<f64>, mut sampler: Sampler) -> Result<()> {
    let most = node.namespaces.len();
    let title = format!("ADD with {most} pods on the VM");
    add.sort_by(f64::total_cmp);
    sampler.collector.quantiles("calls/add", &title, Unit::Nanoseconds, sampler.variant, quantiles(&add));
    if let Some(bytes) = node.agent_resident_bytes()? {
        let title = format!("Agent's resident memory, {most} pods");
        sampler.sample("calls/agent-memory", &title, Unit::Bytes, bytes as f64);
        // Of the references only later versions answer STATUS.
        let mut status = repeated(node, "STATUS", REPEATED)?;
        status.sort_by(f64::total_cmp);
        let title = |share| format!("STATUS with {most} pods, {share}");
        sampler.calibrated_time("calls/status-p50", &title("p50"), quantile(&status, 0.5));
        sampler.sample("calls/status-p99", &title("p99"), Unit::Nanoseconds, quantile(&status, 0.99));
        let nothing = Summary::of(&run::nothing(node, REPEATED)?).median;
        let title = "A program that does nothing, in the plugin's place, p50";
        sampler.calibrated_time("calls/nothing-p50", title, nothing);
    }
    Ok(())
}
