//! Samples as they come in, until every round is done.

use std::collections::BTreeMap;

use crate::{
    figure::Figure,
    record::{At, Distribution, Record},
    statistics::{QUANTILES, Summary},
    unit::Unit,
    variant::Variant,
};

/// All samples of a run; those of one round have the same index in every variant.
#[derive(Default)]
pub(crate) struct Collector {
    // Few enough to be searched one by one, and in the order in which they came first.
    records: Vec<Pending>,
    grids: Vec<Grids>,
    /// See [`crate::load::Reading::disturbed`]; of every run that can tell.
    pub(crate) disturbed: Vec<f64>,
}

struct Pending {
    id: String,
    title: String,
    at: Option<At>,
    unit: Unit,
    variants: BTreeMap<Variant, Vec<f64>>,
    calibration: Vec<f64>,
}

/// Quantiles of several runs, each of them at [`QUANTILES`].
struct Grids {
    id: String,
    title: String,
    unit: Unit,
    variants: BTreeMap<Variant, Vec<Vec<f64>>>,
}

impl Collector {
    /// A sample of a load's figure.
    pub(crate) fn figure(&mut self, topic: &str, figure: Figure, at: Option<At>, variant: Variant, sample: f64) {
        self.sample(&format!("{topic}/{}", figure.name()), figure.title(), at, figure.unit(), variant, sample);
    }

    pub(crate) fn sample(&mut self, id: &str, title: &str, at: Option<At>, unit: Unit, variant: Variant, sample: f64) {
        self.pending(id, title, at, unit).variants.entry(variant).or_default().push(sample);
    }

    /// Nanoseconds that azure-cni-ebpf alone takes, and of a piece of work that stays the same, at the same moment.
    pub(crate) fn calibrated_time(&mut self, id: &str, title: &str, at: Option<At>, sample: f64, calibration: f64) {
        let pending = self.pending(id, title, at, Unit::Nanoseconds);
        pending.variants.entry(Variant::Ours).or_default().push(sample);
        pending.calibration.push(calibration);
    }

    fn pending(&mut self, id: &str, title: &str, at: Option<At>, unit: Unit) -> &mut Pending {
        let known = self.records.iter().position(|pending| pending.id == id && pending.at == at);
        let index = known.unwrap_or_else(|| {
            let (variants, calibration) = Default::default();
            self.records.push(Pending { id: id.into(), title: title.into(), at, unit, variants, calibration });
            self.records.len() - 1
        });
        &mut self.records[index]
    }

    /// One run's quantiles, at [`QUANTILES`].
    pub(crate) fn quantiles(&mut self, id: &str, title: &str, unit: Unit, variant: Variant, values: Vec<f64>) {
        let known = self.grids.iter().position(|grids| grids.id == id);
        let index = known.unwrap_or_else(|| {
            self.grids.push(Grids { id: id.into(), title: title.into(), unit, variants: BTreeMap::new() });
            self.grids.len() - 1
        });
        self.grids[index].variants.entry(variant).or_default().push(values);
    }

    /// Records in the order in which their figures came first, each figure's along its axis.
    pub(crate) fn finish(mut self) -> (Vec<Record>, Vec<Distribution>) {
        let mut ids: Vec<String> = Vec::new();
        for pending in &self.records {
            if !ids.contains(&pending.id) {
                ids.push(pending.id.clone());
            }
        }
        self.records.sort_by_key(|pending| (ids.iter().position(|id| *id == pending.id), pending.at));
        let records = self.records.into_iter().map(|Pending { id, title, at, unit, variants, calibration }| Record {
            calibration,
            ..Record::new(id, title, at, unit, variants)
        });
        let distributions = self.grids.into_iter().map(|Grids { id, title, unit, variants }| {
            let variants = variants.into_iter().map(|(variant, runs)| (variant, middle(&runs))).collect();
            Distribution { id, title, unit, variants }
        });
        (records.collect(), distributions.collect())
    }
}

/// The median over the runs at each place.
fn middle(runs: &[Vec<f64>]) -> Vec<(f64, f64)> {
    let at = |index: usize| Summary::of(&runs.iter().map(|run| run[index]).collect::<Vec<_>>()).median;
    QUANTILES.iter().enumerate().map(|(index, share)| (*share, at(index))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_one_figure_come_together_by_variant() {
        let mut collector = Collector::default();
        for (variant, sample) in
            [(Variant::Ours, 1.0), (Variant::Bridge, 2.0), (Variant::Ours, 3.0), (Variant::Bridge, 4.0)]
        {
            collector.figure("same-vm", Figure::PacketRate, None, variant, sample);
        }
        let (records, _) = collector.finish();
        assert_eq!(records.len(), 1);
        assert_eq!(records[0].id, "same-vm/packet-rate");
        assert_eq!(records[0].variants[&Variant::Ours].samples, [1.0, 3.0]);
    }

    #[test]
    fn time_that_stands_alone_keeps_the_calibration_of_each_sample() {
        let mut collector = Collector::default();
        for (sample, calibration) in [(1.0, 10.0), (2.0, 20.0)] {
            collector.calibrated_time("leases/lease", "a lease", None, sample, calibration);
        }
        let (records, _) = collector.finish();
        assert_eq!(
            (&*records[0].variants[&Variant::Ours].samples, &*records[0].calibration),
            (&[1.0, 2.0][..], &[10.0, 20.0][..])
        );
    }

    #[test]
    fn distribution_of_runs_is_the_median_of_their_quantiles() {
        let mut collector = Collector::default();
        for level in [1.0, 9.0, 2.0] {
            collector.quantiles("x/y", "y", Unit::Nanoseconds, Variant::Ours, vec![level; QUANTILES.len()]);
        }
        let (_, distributions) = collector.finish();
        assert!(distributions[0].variants[&Variant::Ours].iter().all(|(_, value)| *value == 2.0));
    }
}
