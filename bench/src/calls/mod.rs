//! CNI calls as a runtime makes them: the plugin's whole run, from its start to its end, one after another and all at once.
//!
//! Both plugins are run alike, on VMs of their own that carry no traffic. Every round fills the VM to each number of pods and
//! empties it again; arms take turns within a round.

mod node;
mod run;

use std::path::Path;

use anyhow::{Context, Result};
use azure_cni_agent::api::StepTime;
use azure_cni_tests::Fabric;

use crate::{
    arm::Arm,
    collect::Collector,
    plan::{Plan, Topic},
    progress::{Part, Progress},
    record::{At, Axis},
    statistics::{quantile, quantiles},
    testbed::Reference,
    unit::Unit,
};
use node::{Caller, Node};
use run::{all_at_once, repeated, replaced};

/// The arms that are compared, and so the VMs that the fabric must have besides the others.
const ARMS: [Arm; 3] = [Arm::Ours, Arm::Bridge, Arm::Ptp];
pub(crate) const VMS: usize = ARMS.len();

/// How many pods the VM has, or gets; the plan's most besides.
const PLACES: [u8; 3] = [1, 10, 50];
/// How often one pod is taken away and put back with so many on the VM: more often at the last place.
const REPLACED: usize = 10;
const REPLACED_OF_ALL: usize = 50;
/// How often in a round what is asked again and again is asked.
const REPEATED: usize = 50;

/// Returns the steps of the agent's calls, by its own account. `first_vm`: of those that are for this.
pub(crate) fn measure(
    net: &Fabric,
    first_vm: usize,
    plan: &Plan,
    plugins: &Path,
    collector: &mut Collector,
    progress: &Progress,
) -> Result<Vec<StepTime>> {
    if !plan.has(Topic::Calls) {
        return Ok(Vec::new());
    }
    progress.begin(Part::Calls);
    progress.step("making namespaces for the pods of CNI calls");
    let mut nodes = Vec::new();
    for (index, arm) in ARMS.into_iter().enumerate().filter(|(_, arm)| plan.has_arm(*arm)) {
        let vm = net.vm(first_vm + index);
        let caller = match Reference::of(arm) {
            None => Caller::ours(vm)?,
            Some(reference) => Caller::reference(vm, plugins, reference)?,
        };
        nodes.push((arm, Node::new(vm, caller, usize::from(plan.pods))?));
    }
    for round in 0..plan.short_rounds() {
        for (arm, node) in &nodes {
            progress.step(&format!("round {}/{}  CNI calls, {}", round + 1, plan.short_rounds(), arm.title()));
            one_round(*arm, node, collector).with_context(|| format!("CNI calls of {}", arm.title()))?;
        }
    }
    let steps = nodes.iter().map(|(_, node)| node.steps()).collect::<Result<Vec<_>>>()?;
    Ok(steps.concat())
}

fn one_round(arm: Arm, node: &Node, collector: &mut Collector) -> Result<()> {
    let most = node.namespaces.len();
    let places = PLACES.into_iter().map(usize::from).filter(|place| *place < most).chain([most]);
    for pods in places {
        let at = Some(At { axis: Axis::Pods, value: pods as u32 });
        let mut take = |id: &str, title: &str, unit, sample| {
            collector.sample(&format!("calls/{id}"), title, at, unit, arm, sample);
        };
        let namespaces = &node.namespaces[..pods];
        let spent_before = node.agent_processor_time()?;
        let add = all_at_once(node, "ADD", namespaces)?;
        if let (Some(before), Some(after)) = (spent_before, node.agent_processor_time()?) {
            let each = (after - before).as_nanos() as f64 / pods as f64;
            take("add-agent-cost", "  agent's processor time, per ADD", Unit::Nanoseconds, each);
        }
        let mut one_by_one = replaced(node, namespaces, if pods == most { REPLACED_OF_ALL } else { REPLACED })?;
        for (verb, times) in [("add", &mut one_by_one.add), ("del", &mut one_by_one.del)] {
            times.sort_by(f64::total_cmp);
            let name = verb.to_uppercase();
            for (share, quantile_name) in [(0.5, "p50"), (0.99, "p99")] {
                let title = format!("{name}, one at a time, {quantile_name}");
                take(&format!("{verb}-{quantile_name}"), &title, Unit::Nanoseconds, quantile(times, share));
            }
        }
        if pods == most {
            whole_node(arm, node, &one_by_one.add, collector)?;
        }
        let del = all_at_once(node, "DEL", namespaces)?;
        let mut take = |id: &str, title: &str, unit, sample| {
            collector.sample(&format!("calls/{id}"), title, at, unit, arm, sample);
        };
        for (verb, took) in [("add", add), ("del", del)] {
            let name = verb.to_uppercase();
            take(&format!("{verb}-all"), &format!("{name}, all at once, the last one's end"), Unit::Nanoseconds, took);
            let rate = pods as f64 / (took / 1e9);
            take(&format!("{verb}-rate"), &format!("  {name}, pods per second"), Unit::PodsPerSecond, rate);
        }
    }
    Ok(())
}

/// With all pods attached. `add`: nanoseconds, sorted.
fn whole_node(arm: Arm, node: &Node, add: &[f64], collector: &mut Collector) -> Result<()> {
    let most = node.namespaces.len();
    let title = format!("ADD with {most} pods on the VM");
    collector.quantiles("calls/add", &title, Unit::Nanoseconds, arm, quantiles(add));
    if let Some(bytes) = node.agent_resident_bytes()? {
        let title = format!("Agent's resident memory, {most} pods");
        collector.sample("calls/agent-memory", &title, None, Unit::Bytes, arm, bytes as f64);
        // Of the references only later versions answer STATUS.
        let mut status = repeated(node, "STATUS", REPEATED)?;
        status.sort_by(f64::total_cmp);
        for (share, name) in [(0.5, "p50"), (0.99, "p99")] {
            let title = format!("STATUS with {most} pods, {name}");
            let id = format!("calls/status-{name}");
            collector.sample(&id, &title, None, Unit::Nanoseconds, arm, quantile(&status, share));
        }
        let mut nothing = run::nothing(node, REPEATED)?;
        nothing.sort_by(f64::total_cmp);
        let title = "A program that does nothing, in the plugin's place, p50";
        collector.sample("calls/nothing-p50", title, None, Unit::Nanoseconds, arm, quantile(&nothing, 0.5));
    }
    Ok(())
}
