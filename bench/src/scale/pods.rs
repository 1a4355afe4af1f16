//! By how many pods the VM has: each number on a VM of its own, so that all are measured in each round.

use anyhow::{Context, Result};

use super::{Bench, Scale, TOPIC};
use crate::{
    arm::Arm,
    collect::Collector,
    load::Load,
    rounds::in_turns,
    testbed::{self, Endpoint, Lane},
};

/// The smallest VM with a path between pods, and one in the middle; the largest is the plan's.
const PLACES: [u8; 2] = [2, 50];
/// How many VMs an arm has.
pub(super) const MOST_PLACES: usize = PLACES.len() + 1;

const LOADS: [Load; 2] = [Load::Packets, Load::Connections];

/// A VM with its pods.
struct Crowd<'net> {
    arm: Arm,
    pods: Vec<Endpoint<'net>>,
}

pub(super) fn measure(bench: &Bench, collector: &mut Collector) -> Result<()> {
    let crowds = crowds(bench)?;
    for round in 0..bench.plan.rounds {
        for load in LOADS {
            for Crowd { arm, pods } in in_turns(crowds.iter().collect(), round) {
                bench.step(round, Scale::Pods, pods.len() as u32, *arm);
                let lane = Lane::between(*arm, &*pods[0], &*pods[pods.len() - 1]);
                let reading = load.run(&lane, bench.cores, bench.plan.duration)?;
                let at = Scale::Pods.at(pods.len() as u32);
                for (figure, sample) in reading.values {
                    collector.figure(&format!("{TOPIC}-pods"), figure, Some(at), *arm, sample);
                }
            }
        }
    }
    Ok(())
}

fn crowds<'net>(bench: &Bench<'_, 'net>) -> Result<Vec<Crowd<'net>>> {
    let most = bench.plan.pods.max(PLACES[0]);
    let places = PLACES.into_iter().filter(|place| *place < most).chain([most]);
    let wanted: Vec<_> = places.flat_map(|place| bench.arms().map(move |arm| (place, arm))).collect();
    let build = |(index, (place, arm)): (usize, (u8, Arm))| {
        bench.progress.step(&format!("attaching {place} pods, {}", arm.title()));
        let vm = bench.net.vm(bench.first_vm + index);
        let names: Vec<String> = (0..place).map(|number| format!("crowd{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let pods = testbed::attach(arm, vm, &names, bench.plugins);
        let pods = pods.with_context(|| format!("{place} pods, {}", arm.title()))?.pods;
        Ok(Crowd { arm, pods })
    };
    wanted.into_iter().enumerate().map(build).collect()
}
