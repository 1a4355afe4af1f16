//! Calibration: how slow the machine is right now, measured by work that contains no code of this project.
//!
//! A virtual machine with a busy neighbour takes half as long again for the same instructions. A figure of several variants is judged
//! by their ratio within a round. A time of one variant alone is judged by its ratio to this calibration. (The eBPF programs use a
//! calibration that resembles them more, see [`crate::programs`].)

use std::{collections::BTreeMap, hint::black_box, time::Instant};

use crate::statistics::Summary;

/// Names in the map at any time, and how many are inserted.
const NAMES: usize = 512;
const STEPS: u32 = 1_000;
const TIMES: usize = 9;

/// Nanoseconds that the work takes now: the median of a few runs.
pub(crate) fn sample() -> f64 {
    Summary::of(&(0..TIMES).map(|_| once()).collect::<Vec<_>>()).median
}

/// Nanoseconds of one run. Like leases and the agent, the work mostly formats names and keeps them in a map.
pub(crate) fn once() -> f64 {
    let began = Instant::now();
    let mut book = BTreeMap::new();
    for step in 0..STEPS {
        // Knuth's multiplicative hashing: names come in no order.
        book.insert(format!("{:064x}", step.wrapping_mul(0x9e37_79b1)), step);
        if book.len() > NAMES {
            book.pop_first();
        }
    }
    black_box(book);
    began.elapsed().as_nanos() as f64
}
