//! One figure with all its samples, and what they say: the unit that every kind of report is made of.
//!
//! Samples of one round have the same index in every variant, so that a ratio is one of neighbours in time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    statistics::{Comparison, Summary},
    unit::{Better, Unit},
    variant::Variant,
};

/// What grows while the rest stays the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Axis {
    /// Pods on the VM.
    Pods,
    /// Addresses of the VNet that a pod sends to in turns.
    RemoteAddresses,
    /// Flows that packets come from in turns.
    Flows,
    /// Ports taken that flows to one destination may have, in percent.
    PortsTaken,
    /// Addresses of the pool.
    PoolAddresses,
}

impl Axis {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Pods => "pods",
            Self::RemoteAddresses => "remote addresses",
            Self::Flows => "live flows",
            Self::PortsTaken => "% of the ports taken",
            Self::PoolAddresses => "addresses in the pool",
        }
    }
}

/// A place on an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct At {
    pub(crate) axis: Axis,
    pub(crate) value: u32,
}

/// One variant's samples.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Series {
    pub(crate) samples: Vec<f64>,
    pub(crate) summary: Summary,
}

impl Series {
    fn of(samples: Vec<f64>) -> Self {
        Self { summary: Summary::of(&samples), samples }
    }
}

/// One figure of all variants.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    /// `topic/figure`; with [`Self::at`] it is the record's alone.
    pub(crate) id: String,
    /// For people, without the topic.
    pub(crate) title: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) at: Option<At>,
    pub(crate) unit: Unit,
    pub(crate) better: Better,
    pub(crate) variants: BTreeMap<Variant, Series>,
    /// Of ours to each other variant, in the same round.
    pub(crate) ratios: BTreeMap<Variant, Comparison>,
    /// Of a cost: what a variant's way costs beyond a bare pair in the same round. Every cost includes the same two ends with a wire
    /// between them, which draw its ratios towards 1.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) beyond_bare: BTreeMap<Variant, Series>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) beyond_bare_ratios: BTreeMap<Variant, Comparison>,
    /// Of a time that nothing stands beside: what a piece of work that stays the same took at each of its samples, nanoseconds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) calibration: Vec<f64>,
}

impl Record {
    /// # Panics
    /// If a variant has no samples.
    pub(crate) fn new(
        id: impl Into<String>,
        title: impl Into<String>,
        at: Option<At>,
        unit: Unit,
        samples: BTreeMap<Variant, Vec<f64>>,
    ) -> Self {
        let variants: BTreeMap<_, _> =
            samples.into_iter().map(|(variant, samples)| (variant, Series::of(samples))).collect();
        let mut record = Self {
            id: id.into(),
            title: title.into(),
            at,
            unit,
            better: unit.better(),
            ratios: if unit.has_ratios() { ratios(&variants, unit) } else { BTreeMap::new() },
            beyond_bare: BTreeMap::new(),
            beyond_bare_ratios: BTreeMap::new(),
            calibration: Vec::new(),
            variants,
        };
        if unit == Unit::ProcessorNanoseconds
            && let Some(bare) = record.variants.get(&Variant::Bare)
        {
            let others = record.variants.iter().filter(|(variant, _)| **variant != Variant::Bare);
            record.beyond_bare = others.map(|(variant, whole)| (*variant, beyond(whole, bare))).collect();
            record.beyond_bare_ratios = ratios(&record.beyond_bare, unit);
        }
        record
    }

    /// Of one variant to another, in the same rounds; `None` if either was not measured, or if the unit has no ratios.
    pub(crate) fn ratio(&self, of: Variant, to: Variant) -> Option<Comparison> {
        let (of, to) = (self.variants.get(&of)?, self.variants.get(&to)?);
        self.unit.has_ratios().then(|| Comparison::of(&of.samples, &to.samples, self.better))
    }

    pub(crate) fn topic(&self) -> &str {
        self.id.split_once('/').map_or(&*self.id, |(topic, _)| topic)
    }

    /// Whether it is of the far end of a distribution, which few events make.
    pub(crate) fn is_tail(&self) -> bool {
        self.id.ends_with("-p99") || self.id.ends_with("-p999") || self.id.ends_with("-gap")
    }

    /// Whether it is of a step of calls, which are judged as a whole.
    pub(crate) fn is_step(&self) -> bool {
        self.topic().starts_with("steps-")
    }

    /// Whether it is a size or a count that was asked for once, because it does not vary.
    pub(crate) fn is_fixed(&self) -> bool {
        matches!(self.unit, Unit::Bytes | Unit::Count) && self.variants.values().all(|series| series.samples.len() == 1)
    }

    /// Its id, with the place on its axis: unlike the title, it says enough without its neighbours.
    pub(crate) fn place(&self) -> String {
        match self.at {
            Some(At { axis, value }) => format!("{}, {value} {}", self.id, axis.title()),
            None => self.id.clone(),
        }
    }

    /// The title, with the place on its axis.
    pub(crate) fn full_title(&self) -> String {
        match self.at {
            Some(At { axis, value }) => format!("{}, {value} {}", self.title, axis.title()),
            None => self.title.clone(),
        }
    }
}

fn ratios(variants: &BTreeMap<Variant, Series>, unit: Unit) -> BTreeMap<Variant, Comparison> {
    let Some(ours) = variants.get(&Variant::Ours) else { return BTreeMap::new() };
    let peers = variants.iter().filter(|(variant, _)| **variant != Variant::Ours);
    peers.map(|(variant, theirs)| (*variant, Comparison::of(&ours.samples, &theirs.samples, unit.better()))).collect()
}

fn beyond(whole: &Series, bare: &Series) -> Series {
    Series::of(whole.samples.iter().zip(&bare.samples).map(|(whole, bare)| whole - bare).collect())
}

/// How one figure is distributed: of each variant, pairs of a share (0 to 1) and the value that this share of all samples does
/// not exceed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Distribution {
    /// Like a record's.
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) unit: Unit,
    pub(crate) variants: BTreeMap<Variant, Vec<(f64, f64)>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(unit: Unit) -> Record {
        let samples = BTreeMap::from([
            (Variant::Bare, vec![10.0; 5]),
            (Variant::Ours, vec![12.0; 5]),
            (Variant::Bridge, vec![18.0; 5]),
        ]);
        Record::new("same-vm/packet-cost", "cost", None, unit, samples)
    }

    #[test]
    fn ratios_are_of_ours_to_each_other_variant() {
        let ratios = record(Unit::Nanoseconds).ratios;
        assert_eq!(ratios.keys().copied().collect::<Vec<_>>(), [Variant::Bare, Variant::Bridge]);
        assert_eq!(ratios[&Variant::Bare].summary.median, 1.2);
    }

    #[test]
    fn only_processor_time_has_a_part_beyond_a_bare_pair() {
        assert!(record(Unit::Nanoseconds).beyond_bare.is_empty());
        let record = record(Unit::ProcessorNanoseconds);
        assert_eq!(record.beyond_bare[&Variant::Ours].summary.median, 2.0);
        assert_eq!(record.beyond_bare_ratios[&Variant::Bridge].summary.median, 0.25);
    }

    #[test]
    fn record_survives_json() {
        let record = record(Unit::ProcessorNanoseconds);
        let json = serde_json::to_string(&record).expect("JSON");
        let again: Record = serde_json::from_str(&json).expect("a record");
        assert_eq!(serde_json::to_string(&again).expect("JSON"), json);
    }
}
