//! From values to places along a line of a drawing, and the round values that its axis names.
//!
//! Total: whatever the values are, a place is a number within the line. On a logarithmic axis what is not above zero lies at its
//! low end.

/// A value's place along a line.
#[derive(Debug, Clone)]
pub(super) struct Scale {
    logarithmic: bool,
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    /// Round values, in order.
    pub(super) ticks: Vec<f64>,
}

impl Scale {
    /// From zero, or from below it if a value is below, to a round value that is not below any. Drawn from `from` to `to`.
    pub(super) fn linear(values: impl IntoIterator<Item = f64>, (from, to): (f64, f64), most_ticks: usize) -> Self {
        let (smallest, largest) = ends(values).unwrap_or((0.0, 0.0));
        let (smallest, largest) = (smallest.min(0.0), largest.max(0.0));
        let largest = if largest == smallest { 1.0 } else { largest };
        let step = round_step((largest - smallest) / most_ticks.max(1) as f64);
        let (first, last) = ((smallest / step).floor() as i64, (largest / step).ceil() as i64);
        let ticks: Vec<f64> = (first..=last).map(|index| index as f64 * step).collect();
        Self { logarithmic: false, low: first as f64 * step, high: last as f64 * step, from, to, ticks }
    }

    /// From the round value below the smallest that is above zero to the round value above the largest.
    pub(super) fn log(values: impl IntoIterator<Item = f64>, (from, to): (f64, f64)) -> Self {
        let above_zero = values.into_iter().filter(|value| *value > 0.0);
        let (smallest, largest) = ends(above_zero).unwrap_or((1.0, 10.0));
        let rungs = rungs(smallest, largest);
        // Each of 1, 2 and 5 while there is room for the words, powers of ten beyond.
        let ticks = if rungs.len() <= 7 { rungs } else { decades(smallest, largest) };
        let (low, high) = (ticks[0], ticks[ticks.len() - 1]);
        Self { logarithmic: true, low, high, from, to, ticks }
    }

    /// Exactly over the values, without ticks of its own: for axes that name the places measured.
    pub(super) fn over(places: &[f64], (from, to): (f64, f64)) -> Self {
        let (low, high) = ends(places.iter().copied()).unwrap_or((0.0, 1.0));
        let logarithmic = low > 0.0 && high / low >= 20.0;
        Self { logarithmic, low, high, from, to, ticks: places.to_vec() }
    }

    pub(super) fn place(&self, value: f64) -> f64 {
        let (value, low, high) = if self.logarithmic {
            (value.max(self.low).ln(), self.low.ln(), self.high.ln())
        } else {
            (value, self.low, self.high)
        };
        let share = if high > low { (value - low) / (high - low) } else { 0.5 };
        let share = if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) };
        px(self.from + share * (self.to - self.from))
    }
}

/// Whether values lie so far apart that only a logarithmic axis shows them all.
pub(super) fn is_wide(values: impl IntoIterator<Item = f64>) -> bool {
    ends(values.into_iter().filter(|value| *value > 0.0)).is_some_and(|(low, high)| high / low > 30.0)
}

/// Tenths are fine enough for a drawing.
pub(super) fn px(place: f64) -> f64 {
    // Adding zero turns a negative one positive.
    (place * 10.0).round() / 10.0 + 0.0
}

fn ends(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    let finite = values.into_iter().filter(|value| value.is_finite());
    finite.fold(None, |ends, value| match ends {
        None => Some((value, value)),
        Some((low, high)) => Some((low.min(value), high.max(value))),
    })
}

/// The smallest of 1, 2 and 5 times a power of ten that is not below `step`.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    [1.0, 2.0, 5.0]
        .into_iter()
        .map(|digit| digit * power)
        .find(|round| *round >= step * 0.999_999)
        .unwrap_or(10.0 * power)
}

/// Powers of ten, from the last one not above `low` to the first one not below `high`.
fn decades(low: f64, high: f64) -> Vec<f64> {
    (low.log10().floor() as i32..=high.log10().ceil() as i32).map(|power| 10f64.powi(power)).collect()
}

/// 1, 2 and 5 times powers of ten, from the last one not above `low` to the first one not below `high`; at least two.
fn rungs(low: f64, high: f64) -> Vec<f64> {
    let decades = low.log10().floor() as i32..=high.log10().ceil() as i32 + 1;
    let all: Vec<f64> = decades.flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(power))).collect();
    let first = all.iter().rposition(|rung| *rung <= low * 1.000_001).unwrap_or(0);
    let last = all.iter().position(|rung| *rung >= high * 0.999_999).unwrap_or(all.len() - 1);
    all[first..=last.max(first + 1)].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_round(tick: f64) -> bool {
        // Two digits at most, as in 1.5.
        let digits = 10.0 * tick.abs() / 10f64.powf(tick.abs().log10().floor());
        tick == 0.0 || (digits - digits.round()).abs() < 1e-6
    }

    #[test]
    fn ticks_are_round_and_cover_the_data() {
        for values in [[3.0, 7.0], [0.0, 254_123.0], [27_000.0, 50_000_000.0], [0.001, 0.0012], [5.0, 5.0], [-3.0, 8.0]]
        {
            for scale in [Scale::linear(values, (0.0, 100.0), 5), Scale::log(values, (0.0, 100.0))] {
                let ticks = &scale.ticks;
                assert!(ticks.iter().all(|tick| is_round(*tick)), "{values:?}: {ticks:?}");
                assert!((2..=9).contains(&ticks.len()), "{values:?}: {ticks:?}");
                assert!(values.iter().all(|value| *value <= scale.high * 1.000_001), "{values:?}: {scale:?}");
                let has_place =
                    |value: f64| value >= scale.low - scale.low.abs() * 1e-6 || scale.logarithmic && value <= 0.0;
                assert!(values.into_iter().all(has_place), "{values:?}: {scale:?}");
            }
        }
    }

    #[test]
    fn larger_values_lie_further_along() {
        let values = [1.0, 2.0, 40.0, 900.0, 16_000.0];
        for scale in [
            Scale::linear(values, (0.0, 300.0), 5),
            Scale::log(values, (0.0, 300.0)),
            Scale::over(&values, (0.0, 300.0)),
        ] {
            let places = values.map(|value| scale.place(value));
            assert!(places.is_sorted(), "{places:?}");
            assert!(places.iter().all(|place| (0.0..=300.0).contains(place)), "{places:?}");
        }
    }

    #[test]
    fn what_is_not_above_zero_lies_at_the_low_end_of_a_logarithmic_axis() {
        let scale = Scale::log([0.0, -5.0, 10.0, 1000.0], (20.0, 120.0));
        for value in [0.0, -5.0, f64::NEG_INFINITY, f64::NAN] {
            assert_eq!(scale.place(value), 20.0, "{value}");
        }
    }

    #[test]
    fn nothing_and_zeros_have_places_too() {
        for values in [vec![], vec![0.0], vec![0.0, 0.0], vec![f64::NAN]] {
            let range = (0.0, 100.0);
            for scale in [
                Scale::linear(values.clone(), range, 4),
                Scale::log(values.clone(), range),
                Scale::over(&values, range),
            ] {
                assert!(
                    scale.place(0.0).is_finite() && scale.ticks.iter().all(|tick| !tick.is_infinite()),
                    "{scale:?}"
                );
            }
        }
    }
}
