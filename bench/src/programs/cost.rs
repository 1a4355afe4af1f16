//! Nanoseconds per packet of each program under BPF_PROG_TEST_RUN.
//!
//! The kernel repeats a run on what the run before has made of the packet, so a packet that is translated, or the first
//! of its flow, can be run but once. A single run is timed with all that a run costs the kernel around the program, and
//! with caches that system calls have been through. The first is measured on the shortest way through a program, once
//! repeated and once not, and taken off; the second stays, and a case that is timed both ways shows how much it is.
//! The kernel's own share of a packet's way (redirects, queues) is in none of these figures.

use anyhow::Result;
use bpf_tests::Rig;

use super::cases::{self, Case, Packets};
use crate::{collect::Collector, statistics::Summary};

/// Of a packet whose hop limit lasts that long.
const REPEAT: u32 = 250;
/// Of one case in one round; its sample is their median.
const RUNS: u16 = 200;

/// Times every case in each round.
pub(super) fn measure(rig: &Rig, rounds: u16, collector: &mut Collector) -> Result<()> {
    let cases = cases::all(rig);
    let [repeated, single] = cases::shortest();
    for round in 0..rounds {
        let (around_single, around_repeated) = time(rig, [&single, &repeated], round)?;
        let around = around_single - around_repeated;
        for case in &cases {
            let (how, off, shortest) = match case.packets {
                Packets::Repeated(_) => ("", 0.0, &repeated),
                Packets::Single(_) => (", single runs", around, &single),
            };
            let id = format!("programs/{}{how}", case.name());
            let title = format!("{}{how}", case.name());
            let (cost, calibration) = time(rig, [case, shortest], round)?;
            collector.calibrated_time(&id, &title, None, cost - off, calibration);
        }
    }
    Ok(())
}

/// Nanoseconds of two cases, as the kernel reports them: the medians of a round's runs. The cases alternate, so that a machine that
/// slows down slows down both.
fn time(rig: &Rig, cases: [&Case; 2], round: u16) -> Result<(f64, f64)> {
    let run = |case: &Case, number| -> Result<f64> {
        let repeat = match case.packets {
            Packets::Repeated(_) => REPEAT,
            Packets::Single(_) => 1,
        };
        Ok(case.run(rig, round * RUNS + number, repeat)?.as_nanos() as f64)
    };
    let alternating = (0..RUNS).map(|number| Ok((run(cases[0], number)?, run(cases[1], number)?)));
    let (one, other): (Vec<_>, Vec<_>) = alternating.collect::<Result<Vec<_>>>()?.into_iter().unzip();
    Ok((Summary::of(&one).median, Summary::of(&other).median))
}
