//! What happens to a figure while something grows: a line of each variant with its spread, and its numbers below the places
//! measured.

use std::collections::BTreeSet;

use maud::{Markup, html};

use super::{
    curves::{self, Curve, Plot},
    labels, look,
    rows::WIDTH,
    scale::{self, Scale, px},
    words,
};
use crate::{
    record::{Axis, Record},
    statistics::Summary,
    unit::Unit,
    variant::Variant,
};

const PLOT: Plot = Plot { left: 62.0, right: WIDTH - 130.0, top: 14.0, bottom: 210.0 };
/// Of the numbers' lines, which stand below the axis: beside points they would lie on other variants' lines.
const LINE: f64 = 16.0;
const NUMBERS: f64 = PLOT.bottom + 38.0;
/// Between the vertical axis and the first place, and between the last place and the names.
const ASIDE: f64 = 22.0;
/// Between variants at one place, so that their spreads do not lie on each other.
const BESIDE: f64 = 6.0;
/// Between places, for their numbers.
const GAP: f64 = 52.0;

/// One variant's, in the order of the axis.
struct Line {
    variant: Variant,
    points: Vec<Point>,
}

struct Point {
    place: f64,
    /// Of its place, in the drawing.
    axis_x: f64,
    /// Its own, beside those of other variants.
    x: f64,
    summary: Summary,
}

fn lines(records: &[&Record]) -> Vec<Line> {
    let axis = places(records);
    let variants: BTreeSet<Variant> = records.iter().flat_map(|record| record.variants.keys().copied()).collect();
    let middle = (variants.len() as f64 - 1.0) / 2.0;
    let line = |(index, variant): (usize, &Variant)| {
        let aside = (index as f64 - middle) * BESIDE;
        let point = |(place, x): &(f64, f64)| {
            let is_here = |record: &&&Record| record.at.is_some_and(|at| f64::from(at.value) == *place);
            let series = records.iter().filter(is_here).find_map(|record| record.variants.get(variant))?;
            Some(Point { place: *place, axis_x: *x, x: x + aside, summary: series.summary })
        };
        Line { variant: *variant, points: axis.iter().filter_map(point).collect() }
    };
    variants.iter().enumerate().map(line).collect()
}

/// Every place on the axis and where it is drawn: to scale as far as each is left room for its numbers.
fn places(records: &[&Record]) -> Vec<(f64, f64)> {
    let places: BTreeSet<u32> = records.iter().filter_map(|record| Some(record.at?.value)).collect();
    let places: Vec<f64> = places.into_iter().map(f64::from).collect();
    let (first, last) = (PLOT.left + ASIDE, PLOT.right - ASIDE);
    let scale = Scale::over(&places, (first, last));
    let wanted: Vec<f64> = places.iter().map(|place| scale.place(*place)).collect();
    let even = (last - first) / (places.len() as f64 - 1.0).max(1.0);
    places.into_iter().zip(labels::apart(&wanted, even.min(GAP), last)).collect()
}

/// Of one figure's records, each at a place of its own on the axis.
pub(super) fn chart(title: &str, unit: Unit, axis: Axis, records: &[&Record]) -> Markup {
    let lines = lines(records);
    let summaries = lines.iter().flat_map(|line| &line.points).map(|point| point.summary);
    let y = vertical(summaries.flat_map(|summary| [summary.low, summary.median, summary.high]).collect());
    let places = places(records).into_iter().map(|(place, x)| (x, place.to_string()));
    html! {
        svg role="img" viewBox={ "0 0 " (WIDTH) " " (NUMBERS + lines.len() as f64 * LINE + 4.0) } {
            title { (title) }
            desc { @for line in &lines { (described(line, unit, axis)) } }
            (curves::vertical(&PLOT, &y, |value| words::tick(unit, value)))
            (curves::horizontal(&PLOT, places, axis.title()))
            @for line in &lines {
                g class=(look::class(line.variant)) {
                    title { (described(line, unit, axis)) }
                    @for point in &line.points { (whisker(point, &y)) }
                    (curve(line, &y).draw())
                }
            }
            (numbers(&lines, unit))
            (names(&lines, &y))
        }
    }
}

fn vertical(values: Vec<f64>) -> Scale {
    let range = (PLOT.bottom, PLOT.top);
    if scale::is_wide(values.iter().copied()) && values.iter().all(|value| *value > 0.0) {
        Scale::log(values, range)
    } else {
        Scale::linear(values, range, 5)
    }
}

fn curve(line: &Line, y: &Scale) -> Curve {
    let places: Vec<_> = line.points.iter().map(|point| (point.x, y.place(point.summary.median))).collect();
    Curve { variant: line.variant, marked: places.clone(), places }
}

fn whisker(point: &Point, y: &Scale) -> Markup {
    let (x, low, high) = (px(point.x), y.place(point.summary.low), y.place(point.summary.high));
    let (left, right) = (px(x - 3.0), px(x + 3.0));
    html! {
        @if low > high {
            path class="whisker" d=(format!("M{left} {low}H{right}M{left} {high}H{right}M{x} {low}V{high}")) {}
        }
    }
}

/// In columns below the places, a line for each variant.
fn numbers(lines: &[Line], unit: Unit) -> Markup {
    html! {
        @for (index, line) in lines.iter().enumerate() {
            @let middle = NUMBERS + (index as f64 + 0.5) * LINE;
            g class=(look::class(line.variant)) {
                @for point in &line.points {
                    text class="number" x=(px(point.axis_x)) y=(middle + 4.0) text-anchor="middle" {
                        (words::shown(unit, point.summary.median))
                    }
                }
                (name(line.variant, middle))
            }
        }
    }
}

fn name(variant: Variant, middle: f64) -> Markup {
    html! {
        (look::mark(variant, PLOT.right + 16.0, px(middle)))
        text class="name" x=(PLOT.right + 24.0) y=(px(middle + 4.0)) { (variant.title()) }
    }
}

/// Each variant's at its line's end.
fn names(lines: &[Line], y: &Scale) -> Markup {
    let ends: Vec<f64> = lines
        .iter()
        .map(|line| line.points.last().map_or(PLOT.bottom, |point| y.place(point.summary.median)))
        .collect();
    let heights = labels::apart(&ends, labels::LINE + 1.0, PLOT.bottom);
    html! {
        @for (line, height) in lines.iter().zip(heights) {
            g class=(look::class(line.variant)) { (name(line.variant, height)) }
        }
    }
}

fn described(line: &Line, unit: Unit, axis: Axis) -> String {
    let said =
        |point: &Point| format!("{} {}: {}", point.place, axis.title(), words::with_spread(unit, &point.summary));
    let said: Vec<String> = line.points.iter().map(said).collect();
    format!("{}, {}. ", line.variant.title(), said.join("; "))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::record::At;

    fn record(value: u32, samples: &[(Variant, f64)]) -> Record {
        let samples: BTreeMap<_, _> = samples.iter().map(|(variant, sample)| (*variant, vec![*sample])).collect();
        let at = Some(At { axis: Axis::Flows, value });
        Record::new("scale-flows/packet-rate", "UDP", at, Unit::PacketsPerSecond, samples)
    }

    #[test]
    fn points_along_an_axis_are_in_order_whatever_the_order_of_the_records() {
        let records = [
            record(100_000, &[(Variant::Ours, 3.0)]),
            record(10, &[(Variant::Ours, 1.0), (Variant::Ptp, 4.0)]),
            record(1000, &[(Variant::Ours, 2.0)]),
        ];
        let lines = lines(&records.iter().collect::<Vec<_>>());
        let places: Vec<f64> = lines[0].points.iter().map(|point| point.place).collect();
        assert_eq!(places, [10.0, 1000.0, 100_000.0]);
        assert!(lines[0].points.windows(2).all(|pair| pair[1].x - pair[0].x >= GAP - 0.1));
        assert_eq!(lines[1].points.len(), 1, "what was not measured is no point");
    }

    #[test]
    fn single_place_of_value_zero_is_drawn() {
        let record = record(0, &[(Variant::Ours, 0.0)]);
        let chart = chart("flows", record.unit, Axis::Flows, &[&record]).into_string();
        assert!(chart.contains("class=\"mark\"") && !chart.contains("NaN") && !chart.contains("inf"), "{chart}");
    }
}
