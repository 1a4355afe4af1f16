//! Loads on lanes: round by round, load by load, all arms right after each other, every other round backwards.
//!
//! So a ratio is one of neighbours in time, and what changes steadily meanwhile favours neither of them.

use anyhow::{Context, Result};

use crate::{
    arm::Arm,
    collect::Collector,
    load::{Cores, Load, Reading},
    plan::{Path, Plan},
    progress::{Part, Progress},
    testbed::{Lane, Testbed},
};

pub(crate) fn run(
    plan: &Plan,
    testbed: &Testbed,
    cores: Cores,
    collector: &mut Collector,
    progress: &Progress,
) -> Result<()> {
    progress.begin(Part::Loads);
    for round in 0..plan.rounds {
        for load in Load::ALL {
            for lane in in_turns(testbed.lanes_of(plan, load), round) {
                let what = format!("{}, {}, {}", lane.path.title(), load.name(), lane.arm.title());
                progress.step(&format!("round {}/{}  {what}", round + 1, plan.rounds));
                let reading = load.run(&lane, cores, plan.duration).with_context(|| what)?;
                take(collector, plan, load, &lane, reading);
            }
        }
    }
    Ok(())
}

/// Every other round backwards.
pub(crate) fn in_turns<T>(mut turns: Vec<T>, round: u16) -> Vec<T> {
    if round % 2 == 1 {
        turns.reverse();
    }
    turns
}

/// The bare pair's samples go to every path that the load was put on: they are what each is compared with.
fn take(collector: &mut Collector, plan: &Plan, load: Load, lane: &Lane, reading: Reading) {
    let paths: Vec<Path> = match lane.arm {
        Arm::Bare => plan.loads.iter().filter(|(_, planned)| *planned == load).map(|(path, _)| *path).collect(),
        _ => vec![lane.path],
    };
    collector.disturbed.extend(reading.disturbed);
    for path in paths {
        for (figure, sample) in &reading.values {
            collector.figure(path.name(), *figure, None, lane.arm, *sample);
        }
        if let (Some(quantiles), Some((figure, _))) = (&reading.quantiles, reading.values.first()) {
            let id = format!("{}/{}", path.name(), load.name());
            collector.quantiles(&id, load.title(), figure.unit(), lane.arm, quantiles.clone());
        }
    }
}
