//! The latency of calls and of their steps: a histogram of each, since the agent started.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use azure_cni_api::cni::Command;
use azure_cni_api::socket::StepLatency;
use hdrhistogram::Histogram;

use super::limits::Step;

/// The step name that stands for the whole call.
pub const WHOLE: &str = "total";

/// Microseconds, and longer than any call may take. A call that takes longer counts as this.
const LONGEST_US: u64 = 120_000_000;
/// Values are exact to a hundredth; a histogram takes ten kilobytes.
const DIGITS: u8 = 2;

#[derive(Default)]
pub struct LatencyHistograms {
    histograms: Mutex<BTreeMap<(&'static str, &'static str), Histogram<u32>>>,
}

impl LatencyHistograms {
    /// Counts a call that has ended, also one that failed.
    pub fn record(&self, command: Command, whole: Duration, taken: &[(Step, Duration)]) {
        let mut histograms = self.histograms.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = taken.iter().map(|(step, duration)| (step.name(), *duration));
        for (step, duration) in taken.chain([(WHOLE, whole)]) {
            let histogram = histograms.entry((command.as_str(), step)).or_insert_with(|| {
                Histogram::new_with_bounds(1, LONGEST_US, DIGITS).expect("constant bounds that the crate allows")
            });
            histogram.saturating_record(u64::try_from(duration.as_micros()).unwrap_or(LONGEST_US));
        }
    }

    pub fn all(&self) -> Vec<StepLatency> {
        let histograms = self.histograms.lock().unwrap_or_else(PoisonError::into_inner);
        let time = |((command, step), histogram): (&(&str, &str), &Histogram<u32>)| StepLatency {
            command: (*command).to_owned(),
            step: (*step).to_owned(),
            count: histogram.len(),
            p50_us: histogram.value_at_quantile(0.5),
            p99_us: histogram.value_at_quantile(0.99),
            max_us: histogram.max(),
        };
        histograms.iter().map(time).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_what_was_recorded_by_command_and_step() {
        let latency = LatencyHistograms::default();
        for millis in 1..=100 {
            latency.record(Command::Add, Duration::from_millis(millis), &[]);
        }
        latency.record(Command::Del, Duration::from_secs(3600), &[]);
        latency.record(Command::Gc, Duration::ZERO, &[]);
        let all = latency.all();
        let [add, del, gc] = all.as_slice() else { panic!("{all:?}") };
        assert_eq!((add.command.as_str(), add.step.as_str(), add.count), ("ADD", WHOLE, 100));
        for (found, expected) in [(add.p50_us, 50_000), (add.p99_us, 99_000), (add.max_us, 100_000)] {
            assert!(found.abs_diff(expected) * 100 <= expected, "{add:?}");
        }
        assert!(del.max_us.abs_diff(LONGEST_US) * 100 <= LONGEST_US, "{del:?}");
        assert_eq!(gc.count, 1);
    }
}
