//! How latencies are distributed: the share of all samples that a value is not exceeded by, as a curve of each variant.
//!
//! Up to 99.9 %: the slowest of all is the machine's other work, and would take half of the drawing.

use maud::{Markup, html};

use super::{
    curves::{self, Curve, Plot},
    look,
    rows::WIDTH,
    scale::Scale,
    words,
};
use crate::{record::Distribution, unit::Unit, variant::Variant};

const PLOT: Plot = Plot { left: 44.0, right: WIDTH - 24.0, top: 8.0, bottom: 206.0 };
/// Of the names' lines, which stand below the axis.
const LINE: f64 = 18.0;
const NAMES: f64 = PLOT.bottom + 36.0;
const UP_TO: f64 = 0.999;
const MARKED: [f64; 6] = [0.1, 0.3, 0.5, 0.7, 0.9, 0.99];

/// The value that a share of the samples does not exceed: the first that is kept from there on.
fn at(points: &[(f64, f64)], share: f64) -> Option<f64> {
    points.iter().find(|(kept, _)| *kept >= share - 1e-9).map(|(_, value)| *value)
}

pub(super) fn chart(title: &str, distribution: &Distribution) -> Markup {
    let shown = |points: &[(f64, f64)]| -> Vec<(f64, f64)> {
        points.iter().copied().filter(|(share, value)| *share <= UP_TO && value.is_finite()).collect()
    };
    let mut variants: Vec<(Variant, Vec<(f64, f64)>)> =
        distribution.variants.iter().map(|(variant, points)| (*variant, shown(points))).collect();
    variants.retain(|(_, points)| !points.is_empty());
    let values: Vec<f64> = variants.iter().flat_map(|(_, points)| points).map(|(_, value)| *value).collect();
    let x = Scale::log(values, (PLOT.left, PLOT.right));
    let y = Scale::linear([1.0], (PLOT.bottom, PLOT.top), 5);
    let place = |(share, value): &(f64, f64)| (x.place(*value), y.place(*share));
    let curves = variants.iter().map(|(variant, points)| {
        let marked = points.iter().filter(|(share, _)| MARKED.iter().any(|mark| (mark - share).abs() < 1e-9));
        Curve { variant: *variant, places: points.iter().map(place).collect(), marked: marked.map(place).collect() }
    });
    // As the curves come from left to right.
    let mut named: Vec<_> =
        variants.iter().map(|(variant, points)| (*variant, key(distribution.unit, points))).collect();
    named.sort_by(|one, other| {
        let median = |variant: &Variant| at(&distribution.variants[variant], 0.5).unwrap_or(f64::MAX);
        median(&one.0).total_cmp(&median(&other.0))
    });
    let times = x.ticks.iter().map(|tick| (x.place(*tick), words::tick(distribution.unit, *tick)));
    html! {
        svg role="img" viewBox={ "0 0 " (WIDTH) " " (NAMES + named.len() as f64 * LINE) } {
            title { (title) }
            desc { @for (variant, said) in &named { (variant.title()) ": " (said) ". " } }
            (curves::vertical(&PLOT, &y, |share| format!("{:.0} %", share * 100.0)))
            (curves::horizontal(&PLOT, times, "time"))
            @for curve in curves { g class=(look::class(curve.variant)) { title { (curve.variant.title()) } (curve.draw()) } }
            (names(&named))
        }
    }
}

fn key(unit: Unit, points: &[(f64, f64)]) -> String {
    let shown = |share| at(points, share).map_or_else(|| "none".into(), |value| words::shown(unit, value));
    format!("half within {}, 99 % {}", shown(0.5), shown(0.99))
}

/// Below, in the order in which the curves come.
fn names(named: &[(Variant, String)]) -> Markup {
    html! {
        @for (index, (variant, said)) in named.iter().enumerate() {
            @let middle = NAMES + (index as f64 + 0.5) * LINE;
            g class=(look::class(*variant)) {
                path class="line" d={ "M0 " (middle) "h36" } stroke-dasharray=(look::dash(*variant)) {}
                (look::mark(*variant, 18.0, middle))
                text class="name" x="42" y=(middle + 4.0) { (variant.title()) }
                text class="value" x="172" y=(middle + 4.0) { (said) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn curve_of_zeros_has_places_and_names() {
        let distribution = Distribution {
            id: "same-vm/tcp-round-trip".into(),
            title: "TCP".into(),
            unit: Unit::Nanoseconds,
            variants: BTreeMap::from([
                (Variant::Ours, vec![(0.0, 0.0), (0.5, 0.0), (1.0, 0.0)]),
                (Variant::Bare, vec![]),
            ]),
        };
        let chart = chart("TCP", &distribution).into_string();
        assert!(chart.contains("azure-cni-ebpf") && !chart.contains("NaN") && !chart.contains("inf"), "{chart}");
    }

    #[test]
    fn value_at_a_share_is_the_first_that_is_kept_from_there_on() {
        let points = [(0.0, 1.0), (0.5, 2.0), (1.0, 9.0)];
        assert_eq!(at(&points, 0.5), Some(2.0));
        assert_eq!(at(&points, 0.99), Some(9.0));
    }
}
