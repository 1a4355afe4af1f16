//! Median, spread, and when two things differ. Pure.
//!
//! The rule: no assumption about the distribution, because other work on the machine makes any. The spread of a sample is
//! the interval between two of its values that holds the true median with at least 90 % certainty (order statistics).
//! No crate for it: the quantile and the interval take some 20 lines, and nothing else of such a crate would be in use.

use serde::{Deserialize, Serialize};

use crate::unit::Better;

/// With fewer samples no interval reaches the certainty: at five, from the smallest to the largest, it is 94 %.
pub(crate) const MIN_ROUNDS: u16 = 5;
const CERTAINTY: f64 = 0.9;

/// What a sample says.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Summary {
    /// # Panics
    /// If there are no samples.
    pub(crate) fn of(samples: &[f64]) -> Self {
        assert!(!samples.is_empty(), "a summary of nothing");
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let cut = trimmed(sorted.len());
        Self { median: quantile(&sorted, 0.5), low: sorted[cut], high: sorted[sorted.len() - 1 - cut] }
    }

    /// Half the spread, relative to the median.
    pub(crate) fn relative_spread(&self) -> f64 {
        if self.median == 0.0 { 0.0 } else { (self.high - self.low) / 2.0 / self.median.abs() }
    }
}

/// A quantile of sorted values, between its two neighbours.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let position = share * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[position.floor() as usize], sorted[position.ceil() as usize]);
    below + (above - below) * position.fract()
}

/// The shares that distributions are kept at.
pub(crate) const QUANTILES: [f64; 25] = [
    0.0, 0.01, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95,
    0.98, 0.99, 0.999, 1.0,
];

/// [`QUANTILES`] of sorted values.
pub(crate) fn quantiles(sorted: &[f64]) -> Vec<f64> {
    QUANTILES.iter().map(|share| quantile(sorted, *share)).collect()
}

/// How many values to leave out at each end of `count` sorted ones so that the rest still spans the median.
fn trimmed(count: usize) -> usize {
    // The median lies outside [x(k), x(n+1-k)] if fewer than k of n fair coins fall on one side.
    let mut outside = 0.0;
    let mut coins = 0.5f64.powi(i32::try_from(count).unwrap_or(i32::MAX));
    for cut in 0..count / 2 {
        outside += 2.0 * coins;
        if 1.0 - outside < CERTAINTY {
            return cut.saturating_sub(1);
        }
        coins *= (count - cut) as f64 / (cut + 1) as f64;
    }
    count / 2
}

/// What a ratio says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Verdict {
    Better,
    Worse,
    NoDifference,
    TooFewRounds,
}

impl Verdict {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::NoDifference => "no difference",
            Self::TooFewRounds => "too few rounds",
        }
    }
}

/// Ratios of samples taken in the same rounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Comparison {
    #[serde(flatten)]
    pub(crate) summary: Summary,
    pub(crate) verdict: Verdict,
}

impl Comparison {
    /// Of `ours` to `theirs`, pair by pair.
    pub(crate) fn of(ours: &[f64], theirs: &[f64], better: Better) -> Self {
        let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
        let summary = Summary::of(&ratios);
        let verdict = if ratios.len() < usize::from(MIN_ROUNDS) {
            Verdict::TooFewRounds
        } else if summary.low <= 1.0 && summary.high >= 1.0 {
            Verdict::NoDifference
        } else if (summary.low > 1.0) == (better == Better::Higher) {
            Verdict::Better
        } else {
            Verdict::Worse
        };
        Self { summary, verdict }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_spans_the_median_with_the_promised_certainty() {
        // Tables of the sign test: n, and the rank of the lower end counted from 0.
        for (count, cut) in [(1, 0), (2, 0), (5, 0), (7, 0), (8, 1), (10, 1), (11, 2), (20, 5)] {
            assert_eq!(trimmed(count), cut, "{count} samples");
        }
    }

    #[test]
    fn one_wild_sample_moves_neither_median_nor_verdict_with_rounds_enough() {
        let ours = [2.0, 2.1, 1.9, 2.0, 2.0, 2.1, 1.9, 0.1];
        let comparison = Comparison::of(&ours, &[1.0; 8], Better::Higher);
        assert_eq!(comparison.summary, Summary { median: 2.0, low: 1.9, high: 2.1 });
        assert_eq!(comparison.verdict, Verdict::Better);
    }

    #[test]
    fn spread_that_crosses_one_is_no_difference() {
        let comparison = Comparison::of(&[1.1, 1.2, 1.3, 1.2, 0.9], &[1.0; 5], Better::Higher);
        assert_eq!(comparison.verdict, Verdict::NoDifference);
    }

    #[test]
    fn lower_latency_is_better() {
        let comparison = |ours| Comparison::of(&[ours; 5], &[1.0; 5], Better::Lower).verdict;
        assert_eq!(comparison(0.8), Verdict::Better);
        assert_eq!(comparison(1.2), Verdict::Worse);
    }

    #[test]
    fn four_rounds_are_too_few_to_judge() {
        assert_eq!(Comparison::of(&[2.0; 4], &[1.0; 4], Better::Higher).verdict, Verdict::TooFewRounds);
    }

    #[test]
    fn quantiles_lie_between_their_neighbours() {
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0], 0.5), 2.5);
        assert_eq!(quantile(&[5.0], 0.99), 5.0);
    }
}
