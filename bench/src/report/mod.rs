//! What came of it: one list of records, which every kind of report is made of.
//!
//! `text` for the terminal, `html` for people who look closer, JSON (this structure itself) for programs. `promises` says whether the run
//! keeps them, `compare` judges a change, `summary` is what docs/performance.md is made of.

mod compare;
mod grid;
mod html;
mod promises;
mod summary;
mod text;

#[cfg(test)]
mod document;
#[cfg(test)]
mod sample;

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::{
    machine::Machine,
    record::{Distribution, Record},
    statistics::Summary,
    subject::Mode,
    testbed::Wiring,
    variant::Variant,
};

/// Changes when a reader of the older form would misunderstand.
pub(crate) const FORMAT: u32 = 3;

/// A spread of the bare pair above this makes the run a noisy one.
pub(crate) const NOISY: f64 = 0.1;

/// The whole result.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    pub(crate) format: u32,
    pub(crate) machine: Machine,
    pub(crate) method: Method,
    pub(crate) interfaces: Vec<Wiring>,
    /// See [`crate::load::Reading::disturbed`]; of all runs that can tell.
    pub(crate) disturbed: Option<Disturbed>,
    /// In the order in which they were first measured.
    pub(crate) records: Vec<Record>,
    pub(crate) distributions: Vec<Distribution>,
}

/// How it was measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Method {
    pub(crate) mode: Mode,
    pub(crate) rounds: u16,
    pub(crate) seconds_per_load: f64,
    pub(crate) seconds_taken: f64,
}

/// The share of the time that others held a load generator's core.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Disturbed {
    pub(crate) summary: Summary,
    pub(crate) worst: f64,
}

impl Disturbed {
    pub(crate) fn of(shares: &[f64]) -> Option<Self> {
        let worst = shares.iter().copied().reduce(f64::max)?;
        Some(Self { summary: Summary::of(shares), worst })
    }
}

impl Report {
    /// What an earlier run wrote.
    pub(crate) fn read(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
        let wrong = || format!("{} is not a report of this benchmark", file.display());
        let value: serde_json::Value = serde_json::from_str(&text).with_context(wrong)?;
        let format = value["format"].as_u64().with_context(wrong)?;
        ensure!(
            format == u64::from(FORMAT),
            "{} is a report of format {format}; this benchmark reads format {FORMAT}",
            file.display()
        );
        serde_json::from_value(value).with_context(wrong)
    }

    /// Topics in their order, each with its records.
    pub(crate) fn topics(&self) -> Vec<(&str, Vec<&Record>)> {
        let mut topics: Vec<(&str, Vec<&Record>)> = Vec::new();
        for record in &self.records {
            match topics.iter_mut().find(|(topic, _)| *topic == record.topic()) {
                Some((_, records)) => records.push(record),
                None => topics.push((record.topic(), vec![record])),
            }
        }
        topics
    }

    /// How far a bare pair's own figures lie apart: what the machine's other work does to any figure. Of the figure where it
    /// is widest, tails of latencies left out.
    pub(crate) fn noise(&self) -> Option<f64> {
        let compared = self.records.iter().filter(|record| record.unit.has_ratios() && !record.is_tail());
        let spreads =
            compared.filter_map(|record| Some(record.variants.get(&Variant::Bare)?.summary.relative_spread()));
        spreads.max_by(f64::total_cmp)
    }

    /// Whether the machine had so much else to do that single figures say little.
    pub(crate) fn is_noisy(&self) -> bool {
        self.noise().is_some_and(|noise| noise > NOISY)
    }
}
