//! Takes the samples of one variant's calls with so many pods.

use crate::{calibration, collect::Collector, record::At, statistics::quantile, unit::Unit, variant::Variant};

pub(super) struct Sampler<'run> {
    pub(super) variant: Variant,
    pub(super) at: Option<At>,
    pub(super) collector: &'run mut Collector,
}

impl Sampler<'_> {
    pub(super) fn sample(&mut self, id: &str, title: &str, unit: Unit, sample: f64) {
        self.collector.sample(id, title, self.at, unit, self.variant, sample);
    }

    /// Nanoseconds, of what the references have not.
    pub(super) fn calibrated_time(&mut self, id: &str, title: &str, sample: f64) {
        self.collector.calibrated_time(id, title, self.at, sample, calibration::sample());
    }

    /// Of times in nanoseconds: the median, and the tail.
    pub(super) fn quantiles(&mut self, id: &str, title: &str, mut times: Vec<f64>) {
        times.sort_by(f64::total_cmp);
        for (share, name) in [(0.5, "p50"), (0.99, "p99")] {
            let (id, title) = (format!("{id}-{name}"), format!("{title}, {name}"));
            self.sample(&id, &title, Unit::Nanoseconds, quantile(&times, share));
        }
    }
}
