//! A promise beside what was measured of it: the verdict, and the words that every kind of report uses.

use super::promise::{
    Bound::{self, AtLeast, AtMost},
    Measured, Promise,
    Quantity::{self, Itself, RatioTo, RatioToFirst, Worst},
};
use crate::{record::At, statistics::Summary};

pub(crate) struct Outcome {
    pub(crate) promise: &'static Promise,
    pub(crate) measured: Option<Measured>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Kept,
    NotKept,
    CannotTell,
    NotMeasured,
}

impl Outcome {
    pub(crate) fn verdict(&self) -> Verdict {
        self.promise.bound.judge(self.measured.as_ref())
    }

    pub(crate) fn name(&self) -> String {
        format!("P{}", self.promise.number)
    }

    pub(crate) fn promised(&self) -> String {
        self.show_bound(self.promise.bound)
    }

    /// Empty without one.
    pub(crate) fn aim(&self) -> String {
        self.promise.aim.map(|aim| self.show_bound(aim)).unwrap_or_default()
    }

    /// With its spread, and the place on its axis.
    pub(crate) fn measured(&self) -> String {
        let Some(Measured { at, value, .. }) = self.measured else { return String::new() };
        let place = at.map(|At { axis, value }| format!(", {value} {}", axis.title())).unwrap_or_default();
        self.show_summary(value) + &place
    }

    /// What programs that only redirect reach; empty if that says nothing.
    pub(crate) fn lower_bound(&self) -> String {
        let lower_bound = self.measured.and_then(|measured| measured.lower_bound);
        lower_bound.map(|summary| self.show_summary(summary)).unwrap_or_default()
    }

    /// The verdict, and whether the aim is reached.
    pub(crate) fn judged(&self) -> String {
        let verdict = self.verdict().title();
        match self.promise.aim.filter(|_| self.measured.is_some()) {
            None => verdict.to_owned(),
            Some(aim) => format!("{verdict}; aim {}", aim.judge(self.measured.as_ref()).title_of_aim()),
        }
    }

    fn show_bound(&self, bound: Bound) -> String {
        let (sign, value) = match bound {
            AtLeast(value) => ('≥', value),
            AtMost(value) => ('≤', value),
        };
        let of = self.promise.of;
        format!("{sign} {}{}", of.show(value), of.base())
    }

    /// With the spread, if there is one.
    fn show_summary(&self, Summary { median, low, high }: Summary) -> String {
        let of = self.promise.of;
        let spread = if low == high { String::new() } else { format!(" ({}–{})", of.show(low), of.show(high)) };
        of.show(median) + &spread
    }
}

impl Quantity {
    fn show(self, value: f64) -> String {
        match self {
            // A ratio to zero.
            _ if !value.is_finite() => "none".to_owned(),
            Itself(unit) | Worst(unit) => unit.show(value),
            RatioTo(_) | RatioToFirst => format!("{value:.2}"),
        }
    }

    /// What a ratio is a multiple of.
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
        let Some(Measured { value: Summary { low, high, .. }, has_rounds, .. }) = measured else {
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

impl Verdict {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::NotKept => "not kept",
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
