//! What one run of a load found, and what every load does around its run.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::figure::Figure;

/// What one run of a load found.
pub(crate) struct Reading {
    pub(crate) values: Vec<(Figure, f64)>,
    /// The share of the time that an end was ready to run and had to leave its core to other work; of the end that
    /// waited longer.
    pub(crate) disturbed: Option<f64>,
    /// Of a latency: at [`crate::statistics::QUANTILES`].
    pub(crate) quantiles: Option<Vec<f64>>,
}

impl Reading {
    pub(super) fn of(values: Vec<(Figure, f64)>) -> Self {
        Self { values, disturbed: None, quantiles: None }
    }
}

/// A packet rate with more lost on the way is none (RFC 2544 section 26.1 asks for no loss at all, which a shared machine
/// cannot promise).
const MAX_LOSS: f64 = 0.005;
/// So often such a run is repeated.
const TRIES: u8 = 3;

/// Repeats a run that lost more than a rate may.
pub(crate) fn with_next_to_none_lost(run: impl Fn() -> Result<Reading>) -> Result<Reading> {
    let mut lost = 0.0;
    for _ in 0..TRIES {
        let reading = run()?;
        lost = reading.values.iter().find(|(figure, _)| *figure == Figure::PacketLoss).map_or(0.0, |(_, lost)| *lost);
        if lost <= MAX_LOSS {
            return Ok(reading);
        }
    }
    bail!("{:.1} % of the datagrams were lost, {TRIES} times in a row", lost * 100.0)
}

/// The part of a load's duration that comes before what counts: caches, neighbour entries and windows settle.
pub(super) fn warm_up(duration: Duration) -> Duration {
    duration / 5
}
