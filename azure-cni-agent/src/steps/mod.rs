//! The steps of a call: their names and limits, how long they take, and how tests make them fail (feature `faults`).

#[cfg(feature = "faults")]
mod faults;
#[cfg(not(feature = "faults"))]
#[path = "no_faults.rs"]
mod faults;
mod latency;
mod limits;

pub use faults::{Faults, InjectedFault};
pub use latency::{LatencyHistograms, WHOLE};
pub use limits::Step;
