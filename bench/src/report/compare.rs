//! This run against an earlier one of the same machine: what a change of the code did.
//!
//! The rule. A figure of azure-cni-ebpf is worse (better) if its spread and the earlier one's do not meet, and the medians lie
//! more than [`LEAST`] apart, and the same, in the same direction, is true of its ratio to the bare pair, or to a reference if
//! there is no bare pair in both runs: a machine that is slower today moves both. Shares and counts may be zero: there the
//! spreads alone decide. A size or a count of one sample does not vary, and is judged by its value beyond [`LEAST`].
//! A time that nothing stands beside is judged by the pace of the machine: the earlier run's is scaled by what a packet of the bare
//! pair costs now to what it cost then. Tails, steps of calls (which are judged as a whole), and figures of fewer than
//! [`FEWEST_ROUNDS`] samples in either run are shown but never judged.

#[cfg(test)]
mod tests;

use anyhow::{Result, ensure};

use super::{
    Report,
    text::{add_row, table},
};
use crate::{
    arm::Arm,
    record::Record,
    statistics::{FEWEST_ROUNDS, Summary},
    unit::{Better, Unit},
};

/// Medians that lie less apart are alike.
const LEAST: f64 = 0.02;

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
    /// As the earlier run has it.
    before: f64,
    /// What it is judged by.
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
    to: Arm,
    old: Summary,
    new: Summary,
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
        let has_ours = |record: &&Record| record.arms.contains_key(&Arm::Ours);
        let counterpart = |record: &&'runs Record| old.iter().find(|old| is_same_figure(old, record));
        let pace = pace(old, new);
        let pairs: Vec<_> =
            new.iter().filter_map(|record| Pair::of(counterpart(&record).filter(has_ours)?, record, pace)).collect();
        let in_all = old.iter().filter(has_ours).count() + new.iter().filter(has_ours).count();
        Self { only_in_one: in_all - 2 * pairs.len(), pairs }
    }

    fn judged(&self, change: Change) -> usize {
        self.pairs.iter().filter(|pair| pair.is_judged && pair.change == change).count()
    }

    /// What changed, and how much is alike.
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

/// How much slower the machine is in the new run than in the old; 1 if they do not tell.
fn pace(old: &[Record], new: &[Record]) -> f64 {
    let bare = |records: &[Record]| {
        let cost = records.iter().find(|record| record.id == "same-vm/packet-cost")?;
        Some(cost.arms.get(&Arm::Bare)?.summary.median)
    };
    bare(old).zip(bare(new)).map_or(1.0, |(old, new)| new / old)
}

/// The title may say of how many pods a figure is.
fn is_same_figure(one: &Record, other: &Record) -> bool {
    (&one.id, one.at, one.unit, &one.title) == (&other.id, other.at, other.unit, &other.title)
}

impl<'runs> Pair<'runs> {
    /// Of records of the same figure; `None` if ours is not in both.
    fn of(old: &Record, new: &'runs Record, pace: f64) -> Option<Self> {
        let (old_series, new_series) = (old.arms.get(&Arm::Ours)?, new.arms.get(&Arm::Ours)?);
        let ratio = Ratio::of(old, new);
        let is_time_alone = ratio.is_none() && new.unit == Unit::Nanoseconds;
        let old_summary = if is_time_alone { old_series.summary.scaled(pace) } else { old_series.summary };
        let new_summary = new_series.summary;
        let change = if old.is_fixed() && new.is_fixed() {
            by_value(old_summary.median, new_summary.median, new.better)
        } else if new.unit.has_ratios() {
            let own = beyond_spread_and_least(old_summary, new_summary, new.better);
            let confirmed =
                ratio.is_none_or(|Ratio { old, new: now, .. }| beyond_spread_and_least(old, now, new.better) == own);
            if confirmed { own } else { Change::NoDifference }
        } else {
            by_spread(old_summary, new_summary, new.better)
        };
        let has_rounds = old_series.samples.len().min(new_series.samples.len()) >= usize::from(FEWEST_ROUNDS);
        let is_judged = !new.is_tail() && !new.is_step() && (has_rounds || (old.is_fixed() && new.is_fixed()));
        let before = old_series.summary.median;
        Some(Self { record: new, before, old: old_summary, new: new_summary, ratio, change, is_judged })
    }

    /// Of one; infinite from zero.
    fn relative_change(&self) -> f64 {
        self.new.median / self.old.median - 1.0
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
            self.record.place(),
            unit.show(self.before),
            unit.show(self.new.median),
            change,
            ratio(|ratio| ratio.to.title().to_owned()),
            ratio(|ratio| format!("{:.2}", ratio.old.median)),
            ratio(|ratio| format!("{:.2}", ratio.new.median)),
            verdict.to_owned(),
        ]
    }
}

impl Ratio {
    /// The bare pair's if both runs have it, else the first reference's that both have.
    fn of(old: &Record, new: &Record) -> Option<Self> {
        let mut yardsticks = Arm::PEERS.into_iter().filter(|arm| *arm == Arm::Bare || arm.is_reference());
        yardsticks
            .find_map(|to| Some(Self { to, old: old.ratios.get(&to)?.summary, new: new.ratios.get(&to)?.summary }))
    }
}

fn beyond_spread_and_least(old: Summary, new: Summary, better: Better) -> Change {
    match by_value(old.median, new.median, better) {
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

fn by_value(old: f64, new: f64, better: Better) -> Change {
    if (new - old).abs() <= LEAST * old.abs() { Change::NoDifference } else { direction(new > old, better) }
}

fn direction(is_higher: bool, better: Better) -> Change {
    if is_higher == (better == Better::Higher) { Change::Better } else { Change::Worse }
}
