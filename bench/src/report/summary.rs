//! The little of a run that the repository keeps: what docs/performance.md is made of, and checked against.
//!
//! It has what was measured of each promise, and the ratios to what one would have instead. The whole report stays with the user
//! who made it.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[cfg(test)]
use super::promises::{Outcome, PROMISES};
use super::{Method, Report, promises::Measured};
use crate::{
    machine::Machine,
    record::{At, Record},
    statistics::Summary as Spread,
    unit::Unit,
    variant::Variant,
};

/// Figures that readers ask about first. Of those along an axis the last place counts.
const FIGURES: [&str; 8] = [
    "same-vm/packet-rate",
    "same-vm/connection-rate",
    "across-vms/packet-rate",
    "across-vms/connection-rate",
    "internet/packet-rate",
    "internet/connection-rate",
    "calls/add-p50",
    "calls/add-all",
];

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Summary {
    pub(super) machine: Machine,
    pub(super) method: Method,
    /// See [`Report::noise`].
    pub(super) noise: Option<f64>,
    /// By their names; `null` if the run did not measure it.
    promises: BTreeMap<String, Option<Measured>>,
    pub(super) figures: Vec<Figure>,
}

/// One figure of a default installation, and its ratios to what it replaces.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Figure {
    pub(super) id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) at: Option<At>,
    pub(super) unit: Unit,
    pub(super) value: Spread,
    pub(super) ratios: BTreeMap<Variant, Spread>,
}

impl Report {
    /// As JSON.
    pub(crate) fn summary(&self) -> Result<String> {
        Summary::of(self).to_json()
    }
}

impl Summary {
    fn of(report: &Report) -> Self {
        let along =
            |id: &&str| report.records.iter().filter(move |record| record.id == *id).max_by_key(|record| record.at);
        Self {
            machine: report.machine.clone(),
            method: report.method.clone(),
            noise: report.noise(),
            promises: report.outcomes().iter().map(|outcome| (outcome.name(), outcome.measured)).collect(),
            figures: FIGURES.iter().filter_map(along).filter_map(Figure::of).collect(),
        }
    }

    /// Of every promise, in their order.
    #[cfg(test)]
    pub(super) fn outcomes(&self) -> Vec<Outcome> {
        let outcome = |promise| {
            let outcome = Outcome { promise, measured: None };
            Outcome { measured: self.promises.get(&outcome.name()).copied().flatten(), ..outcome }
        };
        PROMISES.iter().map(outcome).collect()
    }

    /// A line for each part, promise and figure: short enough to read, and so is what changes from one run to the next.
    fn to_json(&self) -> Result<String> {
        let Value::Object(parts) = serde_json::to_value(self)? else { unreachable!("a struct is an object") };
        let line = |name: &str, value: &Value| format!("  {}: {value}", Value::from(name));
        let parts = parts.iter().map(|(name, value)| match value {
            Value::Object(items) if name == "promises" => {
                let items: Vec<_> = items.iter().map(|(name, item)| format!("  {}", line(name, item))).collect();
                format!("  \"{name}\": {{\n{}\n  }}", items.join(",\n"))
            }
            Value::Array(items) => {
                let items: Vec<_> = items.iter().map(|item| format!("    {item}")).collect();
                format!("  \"{name}\": [\n{}\n  ]", items.join(",\n"))
            }
            other => line(name, other),
        });
        Ok(format!("{{\n{}\n}}\n", parts.collect::<Vec<_>>().join(",\n")))
    }
}

impl Figure {
    /// `None` without ours.
    fn of(record: &Record) -> Option<Self> {
        let ratios = record.ratios.iter().filter(|(variant, _)| variant.is_reference());
        Some(Self {
            id: record.id.clone(),
            at: record.at,
            unit: record.unit,
            value: record.variants.get(&Variant::Ours)?.summary,
            ratios: ratios.map(|(variant, ratio)| (*variant, ratio.summary)).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn summary_survives_json_and_judges_as_its_report_does() {
        let samples =
            [(Variant::Ours, 14.0), (Variant::Bridge, 10.0)].map(|(variant, level)| (variant, vec![level; 5]));
        let record = Record::new("internet/packet-rate", "UDP", None, Unit::PacketsPerSecond, samples.into());
        let report = sample::report(vec![record]);
        let json = Summary::of(&report).to_json().expect("JSON");
        let summary: Summary = serde_json::from_str(&json).expect("a summary");
        assert_eq!(summary.to_json().expect("JSON"), json);
        for (ours, theirs) in summary.outcomes().iter().zip(report.outcomes()) {
            assert_eq!((ours.name(), ours.judged()), (theirs.name(), theirs.judged()));
        }
        assert_eq!(summary.figures[0].ratios[&Variant::Bridge].median, 1.4);
    }
}
