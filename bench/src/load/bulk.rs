//! TCP throughput, by iperf3, which most people compare with, and what a gigabyte costs the whole machine.

use std::time::Duration;

use anyhow::Result;
use azure_cni_tests::probe;

use super::{machine_time, reading::Reading};
use crate::{figure::Figure, path::Path, unit::Unit};

/// `yields`: the rate, and the cost of a gigabyte.
pub(super) fn run(path: &Path, duration: Duration, streams: u8, yields: [Figure; 2]) -> Result<Reading> {
    debug_assert_eq!(yields.map(Figure::unit), [Unit::BitsPerSecond, Unit::ProcessorSecondsPerGigabyte]);
    let secs = duration.as_secs_f64().ceil().clamp(1.0, f64::from(u8::MAX)) as u8;
    let before = machine_time::spent()?;
    let bits_per_second = probe::throughput(path.from, path.to, secs, streams)?;
    let spent = machine_time::spent()? - before;
    let gigabytes = bits_per_second * f64::from(secs) / 8.0 / 1e9;
    let cost = spent.as_secs_f64() / gigabytes;
    Ok(Reading::of(vec![(yields[0], bits_per_second), (yields[1], cost)]))
}
