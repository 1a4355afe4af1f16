//! This run against an earlier one of the same machine: what a change of the code did.
//!
//! The rule. A figure of azure-cni-ebpf is worse (better) if its spread and the earlier one's do not meet, and the medians lie more
//! than [`MIN_CHANGE`] apart, and the same, in the same direction, is true of its ratio to the bare pair, or to a reference if
//! there is no bare pair in both runs: a machine that is slower today moves both. Shares and counts may be zero: there the spreads
//! alone decide. A size or a count of one sample does not vary, and is judged by its value beyond [`MIN_CHANGE`]. A time without
//! another variant to compare with has its ratio to the calibration ([`Record::calibration`]) instead. That has to move by more
//! than [`MIN_CHANGE_ALONE`]: no other work slows down exactly as much. Tails, steps of calls (which are judged as a whole), and
//! figures of fewer than [`MIN_ROUNDS`] samples in either run are shown but never judged.

#[cfg(test)]
mod tests;

use anyhow::{Result, ensure};

use super::{
    Report,
    text::{add_row, table},
};
use crate::{
    record::Record,
    statistics::{MIN_ROUNDS, Summary},
    unit::{Better, Unit},
    variant::Variant,
};

/// Medians that lie less apart count as equal.
const MIN_CHANGE: f64 = 0.02;
/// Likewise of times that stand alone.
const MIN_CHANGE_ALONE: f64 = 0.1;

/// Two runs' figures of azure-cni-ebpf.
#[derive(Debug)]
pub(crate) struct Changes<'runs> {
    pairs: Vec<Pair<'runs>>,
    only_in_one: usize,
}

/// A figure that both runs have.
#[derive(Debug)]
struct Pair<'runs> {
    record: &'runs Record,
    variant: Variant,
    old: Summary,
    new: Summary,
    ratio: Option<Ratio>,
    /// What the rule says, whether or not there is enough to go by.
    change: Change,
    is_judged: bool,
}

/// To what moves with the machine.
#[derive(Debug, Clone, Copy)]
struct Ratio {
    to: Baseline,
    old: Summary,
    new: Summary,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Baseline {
    Variant(Variant),
    Calibration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Better,
    Worse,
    NoDifference,
}

impl Report {
    /// Fails if the two runs' figures do not compare, and says why.
    pub(crate) fn changes_since<'runs>(&'runs self, old: &'runs Self) -> Result<Changes<'runs>> {
        let differences = self.machine.differences(&old.machine);
        ensure!(
            differences.is_empty(),
            "the earlier run was made on another machine, so its figures do not compare:\n  {}",
            differences.join("\n  ")
        );
        let changes = Changes::of(&old.records, &self.records);
        ensure!(!changes.pairs.is_empty(), "the two runs have no figure of azure-cni-ebpf in common");
        Ok(changes)
    }
}

impl<'runs> Changes<'runs> {
    fn of(old: &'runs [Record], new: &'runs [Record]) -> Self {
        let counterpart = |record: &Record| old.iter().find(|old| is_same_figure(old, record));
        let pair = |record: &'runs Record| {
            let old = counterpart(record);
            ours(record).filter_map(move |variant| Pair::of(old?, record, variant))
        };
        let pairs: Vec<_> = new.iter().flat_map(pair).collect();
        let in_all = old.iter().chain(new).flat_map(ours).count();
        Self { only_in_one: in_all - 2 * pairs.len(), pairs }
    }

    fn judged(&self, change: Change) -> usize {
        self.pairs.iter().filter(|pair| pair.is_judged && pair.change == change).count()
    }

    /// What changed, and how many figures did not.
    pub(crate) fn text(&self) -> String {
        let mut changed: Vec<_> = self.pairs.iter().filter(|pair| pair.change != Change::NoDifference).collect();
        changed.sort_by(|one, other| {
            let by_size = other.relative_change().abs().total_cmp(&one.relative_change().abs());
            other.is_judged.cmp(&one.is_judged).then(by_size)
        });
        let mut text = "Against the earlier run\n".to_owned();
        if !changed.is_empty() {
            let head = ["Figure", "before", "now", "change", "ratio to", "before", "now", "verdict"];
            let mut table = table(head.map(str::to_owned));
            for pair in changed {
                add_row(&mut table, pair.row());
            }
            text += &format!("{table}\n");
        }
        text + &format!(
            "{} better, {} worse, {} no difference, {} not judged, {} only in one run\n",
            self.judged(Change::Better),
            self.judged(Change::Worse),
            self.judged(Change::NoDifference),
            self.pairs.iter().filter(|pair| !pair.is_judged).count(),
            self.only_in_one
        )
    }

    pub(crate) fn ensure_nothing_is_worse(&self) -> Result<()> {
        let worse = self.judged(Change::Worse);
        let (figures, are) = if worse == 1 { ("figure", "is") } else { ("figures", "are") };
        ensure!(worse == 0, "{worse} {figures} {are} worse than in the earlier run: see the table above");
        Ok(())
    }
}

/// A record's variants of azure-cni-ebpf.
fn ours(record: &Record) -> impl Iterator<Item = Variant> {
    record.variants.keys().copied().filter(|variant| variant.is_ours())
}

/// The title may say of how many pods a figure is.
fn is_same_figure(one: &Record, other: &Record) -> bool {
    (&one.id, one.at, one.unit, &one.title) == (&other.id, other.at, other.unit, &other.title)
}

impl<'runs> Pair<'runs> {
    /// Of records of the same figure; `None` if the variant is not in both.
    fn of(old: &Record, new: &'runs Record, variant: Variant) -> Option<Self> {
        let (old_series, new_series) = (old.variants.get(&variant)?, new.variants.get(&variant)?);
        let (old_summary, new_summary) = (old_series.summary, new_series.summary);
        let ratio = Ratio::of(old, new, variant);
        let change = if old.is_fixed() && new.is_fixed() {
            by_value(old_summary.median, new_summary.median, MIN_CHANGE, new.better)
        } else if new.unit.has_ratios() {
            let own = by_spread_and_value(old_summary, new_summary, MIN_CHANGE, new.better);
            let by_ratio = |Ratio { to, old, new: now }| by_spread_and_value(old, now, to.least(), new.better);
            let confirmed = ratio.is_none_or(|ratio| by_ratio(ratio) == own);
            if confirmed { own } else { Change::NoDifference }
        } else {
            by_spread(old_summary, new_summary, new.better)
        };
        let has_rounds = old_series.samples.len().min(new_series.samples.len()) >= usize::from(MIN_ROUNDS);
        let is_judged = !new.is_tail() && !new.is_step() && (has_rounds || (old.is_fixed() && new.is_fixed()));
        Some(Self { record: new, variant, old: old_summary, new: new_summary, ratio, change, is_judged })
    }

    /// Of one, of what it is judged by; infinite from zero.
    fn relative_change(&self) -> f64 {
        let (old, new) = match self.ratio {
            Some(Ratio { to: Baseline::Calibration, old, new }) => (old, new),
            _ => (self.old, self.new),
        };
        new.median / old.median - 1.0
    }

    /// The figure, and the variant unless it is a default installation.
    fn place(&self) -> String {
        match self.variant {
            Variant::Ours => self.record.place(),
            other => format!("{}, {}", self.record.place(), other.title()),
        }
    }

    fn row(&self) -> [String; 8] {
        let unit = self.record.unit;
        let change = match unit {
            // Shares are of one already, and a count may have been zero.
            Unit::Share | Unit::Count => String::new(),
            _ => format!("{:+.1} %", self.relative_change() * 100.0),
        };
        let ratio = |of: fn(Ratio) -> String| self.ratio.map(of).unwrap_or_default();
        let verdict = match (self.is_judged, self.change) {
            (false, _) => "not judged",
            (true, Change::Better) => "better",
            (true, Change::Worse) => "WORSE",
            (true, Change::NoDifference) => "no difference",
        };
        [
            self.place(),
            unit.show(self.old.median),
            unit.show(self.new.median),
            change,
            ratio(|ratio| ratio.to.title().to_owned()),
            ratio(|ratio| ratio.to.show(ratio.old.median)),
            ratio(|ratio| ratio.to.show(ratio.new.median)),
            verdict.to_owned(),
        ]
    }
}

impl Ratio {
    /// To the bare pair if both runs have it, else to the first reference that both have, else to the calibration.
    fn of(old: &Record, new: &Record, of: Variant) -> Option<Self> {
        let mut variants =
            Variant::PEERS.into_iter().filter(|variant| *variant == Variant::Bare || variant.is_reference());
        let to_variant = variants.find_map(|to| {
            Some(Self { to: Baseline::Variant(to), old: old.ratio(of, to)?.summary, new: new.ratio(of, to)?.summary })
        });
        to_variant
            .or_else(|| Some(Self { to: Baseline::Calibration, old: to_calibration(old)?, new: to_calibration(new)? }))
    }
}

/// Sample by sample.
fn to_calibration(record: &Record) -> Option<Summary> {
    let ours = &record.variants.get(&Variant::Ours)?.samples;
    let ratios: Vec<f64> = ours.iter().zip(&record.calibration).map(|(ours, calibration)| ours / calibration).collect();
    (!ratios.is_empty()).then(|| Summary::of(&ratios))
}

impl Baseline {
    /// How far apart ratios to it have to lie.
    fn least(self) -> f64 {
        match self {
            Self::Variant(_) => MIN_CHANGE,
            Self::Calibration => MIN_CHANGE_ALONE,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Variant(variant) => variant.title(),
            Self::Calibration => "calibration",
        }
    }

    /// A calibration is a piece of unrelated work: how many times it fits into ours says nothing to a reader.
    fn show(self, ratio: f64) -> String {
        match self {
            Self::Variant(_) => format!("{ratio:.2}"),
            Self::Calibration => String::new(),
        }
    }
}

fn by_spread_and_value(old: Summary, new: Summary, least: f64, better: Better) -> Change {
    match by_value(old.median, new.median, least, better) {
        Change::NoDifference => Change::NoDifference,
        _ => by_spread(old, new, better),
    }
}

fn by_spread(old: Summary, new: Summary, better: Better) -> Change {
    if old.low <= new.high && new.low <= old.high {
        Change::NoDifference
    } else {
        direction(new.low > old.high, better)
    }
}

fn by_value(old: f64, new: f64, least: f64, better: Better) -> Change {
    if (new - old).abs() <= least * old.abs() { Change::NoDifference } else { direction(new > old, better) }
}

fn direction(is_higher: bool, better: Better) -> Change {
    if is_higher == (better == Better::Higher) { Change::Better } else { Change::Worse }
}
