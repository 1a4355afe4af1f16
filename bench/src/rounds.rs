//! Loads on paths: round by round, load by load, all variants right after each other, every other round backwards.
//!
//! So a ratio is one of neighbours in time, and what changes steadily meanwhile favours neither of them.

use anyhow::{Context, Result};

use crate::{
    collect::Collector,
    cores::Cores,
    load::{self, reading::Reading},
    path::Path,
    plan::Plan,
    progress::{Part, Progress},
    subject::{LoadKind, PathKind},
    testbed::Testbed,
    variant::Variant,
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
        for load in LoadKind::ALL {
            for path in alternating(testbed.paths_of(plan, load), round) {
                let what = format!("{}, {}, {}", path.kind.title(), load.name(), path.variant.title());
                progress.step(&format!("round {}/{}  {what}", round + 1, plan.rounds));
                let reading = load::run(load, &path, cores, plan.duration).with_context(|| what)?;
                take(collector, plan, load, &path, reading);
            }
        }
    }
    Ok(())
}

/// Every other round backwards.
pub(crate) fn alternating<T>(mut turns: Vec<T>, round: u16) -> Vec<T> {
    if round % 2 == 1 {
        turns.reverse();
    }
    turns
}

/// The bare pair's samples go to every path that the load was put on: they are what each is compared with.
fn take(collector: &mut Collector, plan: &Plan, load: LoadKind, path: &Path, reading: Reading) {
    let kinds: Vec<PathKind> = match path.variant {
        Variant::Bare => plan.loads.iter().filter(|(_, planned)| *planned == load).map(|(kind, _)| *kind).collect(),
        _ => vec![path.kind],
    };
    collector.disturbed.extend(reading.disturbed);
    for kind in kinds {
        for (figure, sample) in &reading.values {
            collector.figure(kind.name(), *figure, None, path.variant, *sample);
        }
        if let (Some(quantiles), Some((figure, _))) = (&reading.quantiles, reading.values.first()) {
            let id = format!("{}/{}", kind.name(), load.name());
            collector.quantiles(&id, load.title(), figure.unit(), path.variant, quantiles.clone());
        }
    }
}
