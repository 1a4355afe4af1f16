//! TCP throughput, by the tool that everybody compares with.

use std::time::Duration;

use anyhow::Result;
use azure_cni_tests::probe;

use super::Reading;
use crate::{figure::Figure, testbed::Lane};

pub(super) fn run(lane: &Lane, duration: Duration) -> Result<Reading> {
    let secs = duration.as_secs_f64().ceil().clamp(1.0, f64::from(u8::MAX)) as u8;
    let rate = probe::throughput(lane.from, lane.to, secs)?;
    Ok(Reading { values: vec![(Figure::Throughput, rate)], disturbed: None })
}
