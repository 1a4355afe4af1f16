//! How long calls and their steps take: a histogram of each, since the agent started.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use azure_cni_api::cni::Command;
use azure_cni_api::socket::StepLatency;
use hdrhistogram::Histogram;

use crate::commands::Steps;

/// The name under which whole calls are counted.
pub const WHOLE: &str = "total";

/// Microseconds: longer than any call may take. What takes longer counts as this.
const LONGEST_US: u64 = 120_000_000;
/// A value is off by less than a hundredth: ten kilobytes for each step.
const DIGITS: u8 = 2;

#[derive(Default)]
pub struct StepTimes {
    histograms: Mutex<BTreeMap<(&'static str, &'static str), Histogram<u32>>>,
}

impl StepTimes {
    /// Counts a call that has ended, well or not.
    pub fn record(&self, command: Command, whole: Duration, steps: &Steps) {
        let mut histograms = self.histograms.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = steps.taken().iter().map(|(step, duration)| (step.name(), *duration));
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
        let times = StepTimes::default();
        for millis in 1..=100 {
            times.record(Command::Add, Duration::from_millis(millis), &Steps::default());
        }
        times.record(Command::Del, Duration::from_secs(3600), &Steps::default());
        times.record(Command::Gc, Duration::ZERO, &Steps::default());
        let all = times.all();
        let [add, del, gc] = all.as_slice() else { panic!("{all:?}") };
        assert_eq!((add.command.as_str(), add.step.as_str(), add.count), ("ADD", WHOLE, 100));
        for (found, expected) in [(add.p50_us, 50_000), (add.p99_us, 99_000), (add.max_us, 100_000)] {
            assert!(found.abs_diff(expected) * 100 <= expected, "{add:?}");
        }
        assert!(del.max_us.abs_diff(LONGEST_US) * 100 <= LONGEST_US, "{del:?}");
        assert_eq!(gc.count, 1);
    }
}
