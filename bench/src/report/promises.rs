//! What the project promises of its speed, and whether a report keeps it.
//!
//! A promise is of one record, at one place of its axis, either of azure-cni-ebpf's value itself or of its ratio to something. It
//! is kept (not kept) if the whole spread is on the right (wrong) side of the bound; if the spread crosses it, or of fewer than
//! [`MIN_ROUNDS`] samples, one cannot tell. Sizes are in whole bytes: what the kernel keeps for a table as a whole is not a
//! flow's.

use std::fmt::Write;

use super::Report;
use crate::{
    record::{At, Record},
    statistics::{Comparison, MIN_ROUNDS, Summary},
    unit::Unit,
    variant::Variant,
};

use Bound::{AtLeast, AtMost};
use Place::{Most, Only, Value};
use Quantity::{Itself, RatioTo, RatioToFirst, Worst};

struct Promise {
    /// Its name in the document, P1 and so on; never given to another one.
    number: u8,
    text: &'static str,
    record: &'static str,
    at: Place,
    of: Quantity,
    bound: Bound,
    /// What the project wants to reach, if that is more than it promises.
    aim: Option<Bound>,
}

#[derive(Clone, Copy)]
enum Place {
    /// The record is not along an axis.
    Only,
    /// The largest value that was measured.
    Most,
    Value(u32),
}

#[derive(Clone, Copy)]
enum Quantity {
    Itself(Unit),
    /// The largest of all samples: what must not happen even once.
    Worst(Unit),
    RatioTo(Variant),
    /// To the same record at the first place of its axis, in the same round.
    RatioToFirst,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Kept,
    NotKept,
    CannotTell,
    NotMeasured,
}

/// In nanoseconds.
const MICROSECOND: f64 = 1e3;
const MILLISECOND: f64 = 1e6;
const SECOND: f64 = 1e9;
const MIB: f64 = 1024.0 * 1024.0;

impl Promise {
    const fn new(number: u8, text: &'static str, record: &'static str, at: Place, of: Quantity, bound: Bound) -> Self {
        Self { number, text, record, at, of, bound, aim: None }
    }

    const fn aiming_at(self, aim: Bound) -> Self {
        Self { aim: Some(aim), ..self }
    }
}

const BARE: Quantity = RatioTo(Variant::Bare);
const BRIDGE: Quantity = RatioTo(Variant::Bridge);
const TIME: Quantity = Itself(Unit::Nanoseconds);
const SIZE: Quantity = Itself(Unit::Bytes);
const LOST: Quantity = Worst(Unit::Count);

const PROMISES: [Promise; 19] = [
    Promise::new(1, "Same VM: small packets", "same-vm/packet-rate", Only, BARE, AtLeast(0.75))
        .aiming_at(AtLeast(0.95)),
    Promise::new(2, "Same VM: connections", "same-vm/connection-rate", Only, BARE, AtLeast(0.7))
        .aiming_at(AtLeast(0.95)),
    Promise::new(3, "Same VM: one TCP stream", "same-vm/throughput-1", Only, BARE, AtLeast(0.65))
        .aiming_at(AtLeast(0.95)),
    Promise::new(4, "Across VMs: small packets", "across-vms/packet-rate", Only, BRIDGE, AtLeast(1.4))
        .aiming_at(AtLeast(1.9)),
    Promise::new(5, "Across VMs: connections", "across-vms/connection-rate", Only, BRIDGE, AtLeast(1.2))
        .aiming_at(AtLeast(1.8)),
    Promise::new(6, "Internet: small packets through source NAT", "internet/packet-rate", Only, BRIDGE, AtLeast(1.25))
        .aiming_at(AtLeast(1.6)),
    Promise::new(7, "Internet: connections through source NAT", "internet/connection-rate", Only, BRIDGE, AtLeast(1.1))
        .aiming_at(AtLeast(1.5)),
    Promise::new(8, "A full VM: a packet costs the same", "scale-pods/packet-cost", Most, RatioToFirst, AtMost(1.25))
        .aiming_at(AtMost(1.03)),
    Promise::new(
        9,
        "A full VM: a connection costs the same",
        "scale-pods/connection-cost",
        Most,
        RatioToFirst,
        AtMost(1.25),
    )
    .aiming_at(AtMost(1.03)),
    Promise::new(10, "No datagram is lost when the agent restarts", "restart/restarted-lost", Only, LOST, AtMost(0.0)),
    Promise::new(11, "No datagram is lost when the agent is killed", "restart/killed-lost", Only, LOST, AtMost(0.0)),
    Promise::new(12, "A full VM: one ADD, p50", "calls/add-p50", Most, TIME, AtMost(15.0 * MILLISECOND))
        .aiming_at(AtMost(5.0 * MILLISECOND)),
    Promise::new(13, "A full VM: all ADDs at once", "calls/add-all", Most, TIME, AtMost(3.0 * SECOND)),
    Promise::new(14, "A full VM: the agent's resident memory", "calls/agent-memory", Only, SIZE, AtMost(64.0 * MIB)),
    Promise::new(15, "A flow's memory, IPv4", "memory/IPv4", Only, SIZE, AtMost(96.0)),
    Promise::new(16, "A flow's memory, IPv4, translated", "memory/IPv4, translated", Only, SIZE, AtMost(184.0)),
    Promise::new(17, "A flow's memory, IPv6", "memory/IPv6", Only, SIZE, AtMost(120.0)),
    Promise::new(18, "A flow's memory, IPv6, translated", "memory/IPv6, translated", Only, SIZE, AtMost(248.0)),
    Promise::new(
        19,
        "A lease and its release, with as many addresses as a network's pods may have",
        "leases/lease",
        Value(16_000),
        TIME,
        AtMost(2.0 * MICROSECOND),
    ),
];

/// What a report has of a promise.
struct Measured<'report> {
    record: &'report Record,
    summary: Summary,
    /// Of a ratio: what programs that only redirect have of the same, which is what any eBPF data path can have.
    lower_bound: Option<Summary>,
    has_rounds: bool,
}

impl Promise {
    fn measured<'report>(&self, report: &'report Report) -> Option<Measured<'report>> {
        let first = report.record(self.record)?;
        let along = || report.records.iter().filter(|record| record.id == self.record);
        let record = match self.at {
            Only => first,
            Most => along().max_by_key(|record| record.at)?,
            Value(value) => along().find(|record| record.at.is_some_and(|at| at.value == value))?,
        };
        let ours = record.variants.get(&Variant::Ours)?;
        let summary = match self.of {
            Itself(Unit::Bytes) => in_whole(ours.summary),
            Itself(_) => ours.summary,
            Worst(_) => Summary::of(&[ours.samples.iter().copied().reduce(f64::max)?]),
            RatioTo(variant) => record.ratios.get(&variant)?.summary,
            RatioToFirst if record.at == first.at => return None,
            RatioToFirst => {
                Comparison::of(&ours.samples, &first.variants.get(&Variant::Ours)?.samples, record.better).summary
            }
        };
        let lower_bound = match self.of {
            RatioTo(variant) => record.variants.get(&Variant::LowerBound).zip(record.variants.get(&variant)),
            _ => None,
        };
        let lower_bound = lower_bound
            .map(|(lower_bound, peer)| Comparison::of(&lower_bound.samples, &peer.samples, record.better).summary);
        let has_rounds = record.is_fixed() || ours.samples.len() >= usize::from(MIN_ROUNDS);
        Some(Measured { record, summary, lower_bound, has_rounds })
    }

    fn show_bound(&self, bound: Bound) -> String {
        match bound {
            AtLeast(value) => format!("≥ {}", self.of.show(value)),
            AtMost(value) => format!("≤ {}", self.of.show(value)),
        }
    }

    /// With the spread, if there is one.
    fn show_summary(&self, Summary { median, low, high }: Summary) -> String {
        let spread =
            if low == high { String::new() } else { format!(" ({}–{})", self.of.show(low), self.of.show(high)) };
        self.of.show(median) + &spread
    }

    /// With the place on its axis.
    fn show_measured(&self, Measured { record, summary, .. }: &Measured) -> String {
        let mut text = self.show_summary(*summary);
        if let Some(At { axis, value }) = record.at {
            write!(text, ", {value} {}", axis.title()).expect("a String takes all");
        }
        text
    }
}

impl Quantity {
    fn show(self, value: f64) -> String {
        match self {
            Itself(unit) | Worst(unit) => unit.show(value),
            RatioTo(_) | RatioToFirst => format!("{value:.2}"),
        }
    }

    /// What it is a part of, or a multiple.
    fn base(self) -> String {
        match self {
            Itself(_) | Worst(_) => String::new(),
            RatioTo(variant) => format!(" × {}", variant.title()),
            RatioToFirst => " × two pods".to_owned(),
        }
    }
}

impl Bound {
    fn judge(self, measured: Option<&Measured>) -> Verdict {
        let Some(Measured { summary: Summary { low, high, .. }, has_rounds, .. }) = measured else {
            return Verdict::NotMeasured;
        };
        let (is_kept, is_missed) = match self {
            AtLeast(bound) => (*low >= bound, *high < bound),
            AtMost(bound) => (*high <= bound, *low > bound),
        };
        match (has_rounds, is_kept, is_missed) {
            (true, true, _) => Verdict::Kept,
            (true, _, true) => Verdict::NotKept,
            _ => Verdict::CannotTell,
        }
    }
}

fn in_whole(bytes: Summary) -> Summary {
    Summary { median: bytes.median.round(), low: bytes.low.round(), high: bytes.high.round() }
}

impl Report {
    /// All promises as one table, in Markdown.
    pub(super) fn promises(&self) -> String {
        let mut text =
            "| | Promise | Bound | Aim | Measured | Redirect only | |\n|---|---|---|---|---|---|---|\n".to_owned();
        for promise in &PROMISES {
            writeln!(text, "{}", row(promise, self)).expect("a String takes all");
        }
        text
    }
}

fn row(promise: &Promise, report: &Report) -> String {
    let Promise { number, text, of, bound, aim, .. } = promise;
    let measured = promise.measured(report);
    let verdict = |bound: Bound| bound.judge(measured.as_ref());
    let bounds = promise.show_bound(*bound) + &of.base();
    let aims = aim.map(|aim| promise.show_bound(aim) + &of.base()).unwrap_or_default();
    let shown = measured.as_ref().map(|measured| promise.show_measured(measured)).unwrap_or_default();
    let lower_bound =
        measured.as_ref().and_then(|measured| Some(promise.show_summary(measured.lower_bound?))).unwrap_or_default();
    let judged = match aim.filter(|_| measured.is_some()) {
        None => verdict(*bound).title().to_owned(),
        Some(aim) => format!("{}; aim {}", verdict(*bound).title(), verdict(aim).title_of_aim()),
    };
    format!("| P{number} | {text} | {bounds} | {aims} | {shown} | {lower_bound} | {judged} |")
}

impl Verdict {
    fn title(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::NotKept => "**not kept**",
            Self::CannotTell => "cannot tell",
            Self::NotMeasured => "not measured",
        }
    }

    fn title_of_aim(self) -> &'static str {
        match self {
            Self::Kept => "reached",
            Self::NotKept => "not reached",
            Self::CannotTell | Self::NotMeasured => self.title(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{record::Axis, report::sample};

    fn verdict(of: Quantity, at: Place, bound: Bound, records: Vec<Record>) -> Verdict {
        let promise = Promise::new(1, "a promise", "topic/figure", at, of, bound);
        bound.judge(promise.measured(&sample::report(records)).as_ref())
    }

    fn record(pods: Option<u32>, unit: Unit, ours: &[f64]) -> Record {
        let at = pods.map(|value| At { axis: Axis::Pods, value });
        let samples = BTreeMap::from([(Variant::Ours, ours.to_vec()), (Variant::Bridge, vec![10.0; ours.len()])]);
        Record::new("topic/figure", "figure", at, unit, samples)
    }

    #[test]
    fn promise_is_kept_if_the_whole_spread_keeps_it() {
        let rate = |ours: &[f64]| vec![record(None, Unit::PacketsPerSecond, ours)];
        let judged = |ours: &[f64]| verdict(BRIDGE, Only, AtLeast(1.4), rate(ours));
        assert_eq!(judged(&[14.0, 14.5, 15.0, 15.0, 16.0]), Verdict::Kept);
        assert_eq!(judged(&[12.0, 12.5, 13.0, 13.0, 13.9]), Verdict::NotKept);
        assert_eq!(judged(&[13.9, 14.5, 15.0, 15.0, 16.0]), Verdict::CannotTell);
    }

    #[test]
    fn ratio_has_beside_it_what_redirects_alone_have() {
        let variants = [(Variant::LowerBound, 18.0), (Variant::Ours, 14.0), (Variant::Bridge, 10.0)];
        let samples = variants.map(|(variant, level)| (variant, vec![level; 5])).into();
        let record = Record::new("topic/figure", "figure", None, Unit::PacketsPerSecond, samples);
        let promise = Promise::new(1, "a promise", "topic/figure", Only, BRIDGE, AtLeast(1.2));
        assert!(row(&promise, &sample::report(vec![record])).contains("| 1.40 | 1.80 | kept |"));
    }

    #[test]
    fn limit_is_kept_from_below() {
        let judged = |ours: &[f64]| verdict(TIME, Only, AtMost(5.0), vec![record(None, Unit::Nanoseconds, ours)]);
        assert_eq!(judged(&[4.0, 4.5, 5.0, 4.0, 4.0]), Verdict::Kept);
        assert_eq!(judged(&[5.1, 5.5, 6.0, 7.0, 6.0]), Verdict::NotKept);
        assert_eq!(judged(&[4.0, 5.5, 6.0, 7.0, 6.0]), Verdict::CannotTell);
    }

    #[test]
    fn fewer_rounds_cannot_tell_unless_the_size_is_fixed() {
        let judged = |unit, ours: &[f64]| verdict(Itself(unit), Only, AtMost(96.0), vec![record(None, unit, ours)]);
        assert_eq!(judged(Unit::Nanoseconds, &[90.0; 4]), Verdict::CannotTell);
        assert_eq!(judged(Unit::Bytes, &[96.016]), Verdict::Kept);
        assert_eq!(judged(Unit::Bytes, &[97.0]), Verdict::NotKept);
    }

    #[test]
    fn one_datagram_lost_in_one_round_breaks_the_promise() {
        let judged = |lost: &[f64]| verdict(LOST, Only, AtMost(0.0), vec![record(None, Unit::Count, lost)]);
        assert_eq!(judged(&[0.0; 15]), Verdict::Kept);
        assert_eq!(judged(&[&[0.0; 14][..], &[1.0]].concat()), Verdict::NotKept);
    }

    #[test]
    fn cost_with_most_pods_is_judged_against_the_fewest() {
        let crowd = |pods, level: f64| record(Some(pods), Unit::ProcessorNanoseconds, &[level; 5]);
        let judged = |records| verdict(RatioToFirst, Most, AtMost(1.03), records);
        assert_eq!(judged(vec![crowd(2, 100.0), crowd(50, 150.0), crowd(250, 102.0)]), Verdict::Kept);
        assert_eq!(judged(vec![crowd(2, 100.0), crowd(50, 100.0), crowd(250, 104.0)]), Verdict::NotKept);
        assert_eq!(judged(vec![crowd(2, 100.0)]), Verdict::NotMeasured);
    }

    #[test]
    fn what_a_report_lacks_is_not_measured() {
        assert_eq!(verdict(BRIDGE, Only, AtLeast(1.0), Vec::new()), Verdict::NotMeasured);
        let without_bare = vec![record(None, Unit::PacketsPerSecond, &[10.0; 5])];
        assert_eq!(verdict(BARE, Only, AtLeast(1.0), without_bare), Verdict::NotMeasured);
        let elsewhere = vec![record(Some(2), Unit::Nanoseconds, &[10.0; 5])];
        assert_eq!(verdict(TIME, Value(250), AtMost(10.0), elsewhere), Verdict::NotMeasured);
        let table = sample::report(Vec::new()).promises();
        assert_eq!(table.matches("| not measured |").count(), PROMISES.len(), "{table}");
    }

    #[test]
    fn numbers_of_promises_are_theirs_alone() {
        assert!(PROMISES.is_sorted_by(|one, next| one.number < next.number));
    }
}
