//! The order of measuring: round by round, load by load, all lanes right after each other, every other round backwards.
//!
//! So a ratio is one of neighbours in time, and what changes steadily meanwhile favours neither of them.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result};

use crate::{
    figure::Figure,
    load::{Cores, Load},
    plan::{Arm, Path, Plan},
    progress::Progress,
    testbed::{Lane, Testbed},
};

/// All samples; those of one round have the same index everywhere.
#[derive(Default)]
pub(crate) struct Results {
    pub(crate) samples: BTreeMap<(Path, Figure), BTreeMap<Arm, Vec<f64>>>,
    /// See [`crate::load::Reading::disturbed`]; of every run that can tell.
    pub(crate) disturbed: Vec<f64>,
}

pub(crate) fn run(plan: &Plan, testbed: &Testbed, cores: Cores, progress: &Progress) -> Result<Results> {
    let lanes = testbed.lanes();
    let mut results = Results::default();
    let mut steps = Steps::new(plan, &lanes, progress);
    for round in 0..plan.rounds {
        for load in Load::ALL {
            let mut lanes = lanes_of(plan, load, &lanes);
            if round % 2 == 1 {
                lanes.reverse();
            }
            for lane in lanes {
                let what = format!("{}, {}, {}", lane.path.title(), load.name(), lane.arm.title());
                steps.begin(round, &what);
                let reading = load.run(&lane, cores, plan.duration).with_context(|| what)?;
                for (figure, value) in reading.values {
                    results.samples.entry((lane.path, figure)).or_default().entry(lane.arm).or_default().push(value);
                }
                results.disturbed.extend(reading.disturbed);
            }
        }
    }
    Ok(results)
}

/// The lanes that a load is put on: those of its paths, and the bare pair, which every path is compared with.
fn lanes_of<'bed>(plan: &Plan, load: Load, lanes: &[Lane<'bed>]) -> Vec<Lane<'bed>> {
    let paths: Vec<Path> = plan.loads.iter().filter(|(_, planned)| *planned == load).map(|(path, _)| *path).collect();
    let wanted = |lane: &&Lane| paths.contains(&lane.path) || (lane.arm == Arm::Bare && !paths.is_empty());
    lanes.iter().filter(wanted).copied().collect()
}

/// Tells where we are, and how long it will go on.
struct Steps<'run> {
    progress: &'run Progress,
    rounds: u16,
    total: usize,
    done: usize,
    planned: Duration,
}

impl<'run> Steps<'run> {
    fn new(plan: &Plan, lanes: &[Lane], progress: &'run Progress) -> Self {
        let total = Load::ALL.iter().map(|load| lanes_of(plan, *load, lanes).len()).sum::<usize>();
        Self { progress, rounds: plan.rounds, total: total * usize::from(plan.rounds), done: 0, planned: plan.duration }
    }

    fn begin(&mut self, round: u16, what: &str) {
        let elapsed = self.progress.elapsed();
        // Before the first steps tell better: a load takes its duration, and something for setting it up.
        let each = if self.done < 8 { self.planned + Duration::from_millis(200) } else { elapsed / self.done as u32 };
        let left = each * (self.total - self.done) as u32;
        let percent = 100 * self.done / self.total;
        self.progress.step(&format!("round {}/{}  {percent:>3} %", round + 1, self.rounds), left, what);
        self.done += 1;
    }
}
