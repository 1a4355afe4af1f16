//! How slow the machine is at the moment, by a piece of work that no code of this project has a part in.
//!
//! A virtual machine whose neighbour is busy takes half as long again for the same instructions. Figures that something stands
//! beside in the same round are compared by their ratio to it; a time that stands alone has this in its place. (The eBPF programs have
//! something that is more like them, see [`crate::programs`].)

use std::{collections::BTreeMap, hint::black_box, time::Instant};

use crate::statistics::Summary;

/// Names in the book at any time, and how many come and go.
const NAMES: usize = 512;
const STEPS: u32 = 1_000;
const TIMES: usize = 9;

/// Nanoseconds of the work, now: the median of a few times.
pub(crate) fn sample() -> f64 {
    Summary::of(&(0..TIMES).map(|_| once()).collect::<Vec<_>>()).median
}

/// Nanoseconds of the work, once: what leases and agents mostly do, to names and books.
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
