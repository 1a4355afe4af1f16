//! What the project promises of its speed, and whether a report keeps it on the machine that it was made on.
//!
//! A promise is about one record, at one place of its axis: about azure-cni-ebpf's value itself, or about its ratio to something
//! else. A default installation has to keep it. It is kept (not kept) if the whole spread is on the right (wrong) side of the
//! bound. If the spread crosses the bound, or of fewer than [`crate::statistics::MIN_ROUNDS`] samples, one cannot tell.

mod list;
mod outcome;
mod promise;

pub(crate) use self::{
    list::PROMISES,
    outcome::{Outcome, Verdict},
    promise::Measured,
};
use super::Report;

impl Report {
    /// Of every promise, in their order.
    pub(crate) fn outcomes(&self) -> Vec<Outcome> {
        let outcome = |promise| Outcome { promise, measured: Measured::of(promise, &self.records) };
        PROMISES.iter().map(outcome).collect()
    }
}

#[cfg(test)]
mod tests;
