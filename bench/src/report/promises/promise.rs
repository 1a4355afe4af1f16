//! One promise, and what a report's records say about it.

use serde::{Deserialize, Serialize};

use crate::{
    record::{At, Record},
    statistics::{Comparison, MIN_ROUNDS, Summary},
    unit::Unit,
    variant::Variant,
};

pub(crate) struct Promise {
    /// Its name in documents: P1 and so on.
    pub(crate) number: u8,
    pub(crate) text: &'static str,
    pub(super) record: &'static str,
    pub(super) at: Place,
    pub(super) of: Quantity,
    pub(super) bound: Bound,
    /// What the project wants to reach, if that is more than it promises.
    pub(super) aim: Option<Bound>,
}

#[derive(Clone, Copy)]
pub(super) enum Place {
    /// The record is not along an axis.
    Only,
    /// The largest value that was measured.
    Most,
    Value(u32),
}

#[derive(Clone, Copy)]
pub(super) enum Quantity {
    Itself(Unit),
    /// The largest of all samples: what must not happen even once.
    Worst(Unit),
    RatioTo(Variant),
    /// To the same record at the first place of its axis, in the same round.
    RatioToFirst,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Promise {
    pub(super) const fn new(
        number: u8,
        text: &'static str,
        record: &'static str,
        at: Place,
        of: Quantity,
        bound: Bound,
    ) -> Self {
        Self { number, text, record, at, of, bound, aim: None }
    }

    pub(super) const fn aiming_at(self, aim: Bound) -> Self {
        Self { aim: Some(aim), ..self }
    }
}

/// What a report has of a promise.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Measured {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) at: Option<At>,
    pub(super) value: Summary,
    /// Of a ratio: what programs that only redirect reach. No eBPF data path on these hops can do better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) lower_bound: Option<Summary>,
    /// Whether there are enough samples to judge by.
    pub(super) has_rounds: bool,
}

impl Measured {
    /// `None` if the records lack what the promise is about.
    pub(super) fn of(promise: &Promise, records: &[Record]) -> Option<Self> {
        let along = || records.iter().filter(|record| record.id == promise.record);
        let first = along().next()?;
        let record = match promise.at {
            Place::Only => first,
            Place::Most => along().max_by_key(|record| record.at)?,
            Place::Value(value) => along().find(|record| record.at.is_some_and(|at| at.value == value))?,
        };
        let ours = record.variants.get(&Variant::Ours)?;
        let value = match promise.of {
            Quantity::Itself(Unit::Bytes) => in_whole(ours.summary),
            Quantity::Itself(_) => ours.summary,
            Quantity::Worst(_) => Summary::of(&[ours.samples.iter().copied().reduce(f64::max)?]),
            Quantity::RatioTo(variant) => record.ratio(Variant::Ours, variant)?.summary,
            Quantity::RatioToFirst if record.at == first.at => return None,
            Quantity::RatioToFirst => {
                let first = first.variants.get(&Variant::Ours)?;
                Comparison::of(&ours.samples, &first.samples, record.better).summary
            }
        };
        let lower_bound = match promise.of {
            Quantity::RatioTo(variant) => record.ratio(Variant::LowerBound, variant).map(|ratio| ratio.summary),
            _ => None,
        };
        let has_rounds = record.is_fixed() || ours.samples.len() >= usize::from(MIN_ROUNDS);
        Some(Self { at: record.at, value, lower_bound, has_rounds })
    }
}

/// What the kernel keeps for a table as a whole is not a flow's.
fn in_whole(bytes: Summary) -> Summary {
    Summary { median: bytes.median.round(), low: bytes.low.round(), high: bytes.high.round() }
}
