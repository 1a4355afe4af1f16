//! Nanoseconds per packet of each program under BPF_PROG_TEST_RUN.
//!
//! The kernel repeats a run on what the run before has made of the packet, so a packet that is translated, or the first
//! of its flow, can be run but once. A single run is timed with all that a run costs the kernel around the program, and
//! with caches that system calls have been through. The first is measured on the shortest way through a program, once
//! repeated and once not, and taken off; the second stays, and a case that is timed both ways shows how much it is.
//! The kernel's own share of a packet's way (redirects, queues) is in none of these figures.

use anyhow::{Result, ensure};
use bpf_tests::Rig;
use serde::Serialize;

use super::cases::{self, Case, Packets};
use crate::statistics::Summary;

/// Of a packet whose hop limit lasts that long.
const REPEAT: u32 = 250;
const RUNS: u16 = 1000;

/// How a case was timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Runs {
    Repeated,
    Single,
}

/// What a program costs in one case.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProgramCost {
    pub(crate) program: &'static str,
    pub(crate) case: &'static str,
    pub(crate) runs: Runs,
    #[serde(rename = "nanosecondsPerPacket")]
    pub(crate) cost: Summary,
    /// Least disturbed.
    pub(crate) least: f64,
}

/// Times every case.
pub(super) fn measure(rig: &Rig) -> Result<Vec<ProgramCost>> {
    let [repeated, single] = cases::shortest_way().map(|case| time(rig, &case));
    let around = median(&single?) - median(&repeated?);
    cases::all(rig).iter().map(|case| cost(rig, case, around)).collect()
}

fn cost(rig: &Rig, case: &Case, around: f64) -> Result<ProgramCost> {
    let mut samples = time(rig, case)?;
    let runs = match case.packets {
        Packets::Same(_) => Runs::Repeated,
        Packets::OneByOne(_) => Runs::Single,
    };
    if runs == Runs::Single {
        samples.iter_mut().for_each(|sample| *sample -= around);
    }
    let least = samples.iter().copied().fold(f64::INFINITY, f64::min);
    Ok(ProgramCost { program: case.hook.program(), case: case.what, runs, cost: Summary::of(&samples), least })
}

/// Nanoseconds, as the kernel tells them.
fn time(rig: &Rig, case: &Case) -> Result<Vec<f64>> {
    let Case { hook, interface, what, packets, verdict } = case;
    let run = |number| {
        let (seen, duration) = match packets {
            Packets::Same(frame) => rig.cost(*hook, interface, frame, REPEAT),
            Packets::OneByOne(frame) => rig.cost(*hook, interface, &frame(number), 1),
        };
        ensure!(seen == *verdict, "{}, {what}: {seen:?} instead of {verdict:?}", hook.program());
        Ok(duration.as_nanos() as f64)
    };
    (0..RUNS).map(run).collect()
}

fn median(samples: &[f64]) -> f64 {
    Summary::of(samples).median
}
