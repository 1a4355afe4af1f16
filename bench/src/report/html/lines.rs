//! Charts of lines: what happens to a figure while something grows, and how latencies are distributed. The numbers stand in a
//! table below, with each line's mark: beside points they would lie on other lines.

use std::collections::BTreeSet;

use maud::{Markup, html};
use plotters::{prelude::*, style::text_anchor::HPos};

use super::{
    chart::{self, GRID, SOFT, Scale, WIDTH},
    look, words,
};
use crate::{
    record::{Axis, Distribution, Record},
    statistics::Summary,
    unit::Unit,
    variant::Variant,
};

const HEIGHT: u32 = 460;
/// Between variants at one place, as a share of the axis, so that their spreads do not lie on each other.
const BESIDE: f64 = 0.014;
/// Distributions are drawn up to there: the slowest of all is the machine's other work, and would take half of the chart.
const UP_TO: f64 = 0.999;
const MARKED: [f64; 6] = [0.1, 0.3, 0.5, 0.7, 0.9, 0.99];

/// One variant's: places on the chart, those with a mark, and spreads from below to above one.
struct Line {
    variant: Variant,
    places: Vec<(f64, f64)>,
    marked: Vec<(f64, f64)>,
    spreads: Vec<[(f64, f64); 2]>,
}

/// An axis with its name, and how it names a value.
struct Named<'words>(Scale, &'words str, &'words dyn Fn(&f64) -> String);

fn draw(title: &str, x: Named, y: Named, lines: &[Line]) -> Markup {
    chart::svg(("chart", title, "The numbers are in the table below."), (WIDTH, HEIGHT), |canvas| {
        let font = || chart::font(22, SOFT, false, HPos::Center);
        let mut plot = ChartBuilder::on(canvas)
            .margin(14)
            .margin_right(46)
            .x_label_area_size(72)
            .y_label_area_size(118)
            .build_cartesian_2d(x.0, y.0)?;
        plot.configure_mesh()
            .max_light_lines(0)
            .bold_line_style(GRID.stroke_width(2))
            .axis_style(GRID.stroke_width(2))
            .y_labels(6)
            .x_desc(x.1)
            .axis_desc_style(font())
            .label_style(font())
            .x_label_formatter(x.2)
            .y_label_formatter(y.2)
            .draw()?;
        for line in lines {
            let colour = look::colour(line.variant);
            plot.draw_series(LineSeries::new(line.places.iter().copied(), colour.stroke_width(4)))?;
            let spreads = line.spreads.iter().flat_map(|[from, to]| chart::whisker(*from, *to, colour));
            let marks = line.marked.iter().map(|at| look::mark(line.variant, *at));
            spreads.chain(marks).try_for_each(|part| plot.plotting_area().draw(&part))?;
        }
        Ok(())
    })
}

/// Below a chart: a row for each variant.
fn numbers(columns: &[String], rows: impl Iterator<Item = (Variant, Vec<String>)>) -> Markup {
    let table = html! {
        table class="numbers" {
            thead { tr { th scope="col" {} @for column in columns { th scope="col" { (column) } } } }
            tbody {
                @for (variant, cells) in rows {
                    tr { th scope="row" { (look::key(variant)) " " (variant.title()) } @for cell in cells { td { (cell) } } }
                }
            }
        }
    };
    super::tables::in_box("Numbers", table)
}

/// Of one figure's records, each at a place of its own on the axis.
pub(super) fn growth(title: &str, unit: Unit, axis: Axis, records: &[&Record]) -> Markup {
    let variants: BTreeSet<Variant> = records.iter().flat_map(|record| record.variants.keys().copied()).collect();
    let places: BTreeSet<u32> = records.iter().filter_map(|record| Some(record.at?.value)).collect();
    let at = |variant: Variant, place: u32| -> Option<Summary> {
        let is_here = |record: &&&Record| record.at.is_some_and(|at| at.value == place);
        Some(records.iter().filter(is_here).find_map(|record| record.variants.get(&variant))?.summary)
    };
    let x = Scale::over(places.iter().copied().map(f64::from).collect());
    let mut lines: Vec<Line> = variants.iter().map(|variant| line(*variant, &places, &at)).collect();
    let middle = (lines.len() as f64 - 1.0) / 2.0;
    for (index, line) in lines.iter_mut().enumerate() {
        let places = line.places.iter_mut().chain(&mut line.marked).chain(line.spreads.iter_mut().flatten());
        places.for_each(|place| place.0 = x.beside(place.0, (index as f64 - middle) * BESIDE));
    }
    let values = lines.iter().flat_map(|line| line.spreads.iter().flatten().chain(&line.places)).map(|place| place.1);
    let above = values.clone().filter(|value| *value > 0.0);
    let (low, high) = above.fold((f64::MAX, 0.0f64), |(low, high), value| (low.min(value), high.max(value)));
    let is_wide = high / low > 30.0 && values.clone().all(|value| value > 0.0);
    let y = if is_wide { Scale::log(values) } else { Scale::linear(values) };
    let columns: Vec<String> = places.iter().map(u32::to_string).collect();
    let cell =
        |variant, place: &u32| at(variant, *place).map_or_else(String::new, |one| words::shown(unit, one.median));
    let rows = variants.iter().map(|variant| (*variant, places.iter().map(|place| cell(*variant, place)).collect()));
    html! {
        (draw(title, Named(x, axis.title(), &f64::to_string), Named(y, "", &|value| words::tick(unit, *value)), &lines))
        (numbers(&columns, rows))
    }
}

fn line(variant: Variant, places: &BTreeSet<u32>, at: &impl Fn(Variant, u32) -> Option<Summary>) -> Line {
    let points = places.iter().filter_map(|place| Some((f64::from(*place), at(variant, *place)?)));
    let points: Vec<(f64, Summary)> = points.filter(|(_, one)| one.low.is_finite() && one.high.is_finite()).collect();
    let medians: Vec<(f64, f64)> = points.iter().map(|(x, one)| (*x, one.median)).collect();
    let wide = points.iter().filter(|(_, one)| one.high > one.low);
    let spreads = wide.map(|(x, one)| [(*x, one.low), (*x, one.high)]).collect();
    Line { variant, marked: medians.clone(), places: medians, spreads }
}

/// The share of all samples that a value is not exceeded by.
pub(super) fn distribution(title: &str, distribution: &Distribution) -> Markup {
    let shown = |points: &[(f64, f64)], is_shown: &dyn Fn(f64) -> bool| -> Vec<(f64, f64)> {
        let points = points.iter().filter(|(share, value)| *share <= UP_TO && is_shown(*share) && value.is_finite());
        points.map(|(share, value)| (*value, *share)).collect()
    };
    let is_marked = |share: f64| MARKED.iter().any(|mark| (mark - share).abs() < 1e-9);
    let lines = distribution.variants.iter().map(|(variant, points)| Line {
        variant: *variant,
        places: shown(points, &|_| true),
        marked: shown(points, &is_marked),
        spreads: Vec::new(),
    });
    let mut lines: Vec<Line> = lines.filter(|line| !line.places.is_empty()).collect();
    // As the curves come from left to right.
    let value = |variant: Variant, share| at(&distribution.variants[&variant], share);
    let median = |line: &Line| value(line.variant, 0.5).unwrap_or(f64::MAX);
    lines.sort_by(|one, other| median(one).total_cmp(&median(other)));
    let unit = distribution.unit;
    let x = Scale::log(lines.iter().flat_map(|line| &line.places).map(|place| place.0));
    let shares = [0.5, 0.9, 0.99, UP_TO];
    let cell = |variant, share| value(variant, share).map_or_else(String::new, |value| words::shown(unit, value));
    let rows = lines.iter().map(|line| (line.variant, shares.map(|share| cell(line.variant, share)).to_vec()));
    let percent = |share: &f64| format!("{} %", (share * 1000.0).round() / 10.0);
    html! {
        (draw(title, Named(x, "time", &|value| words::tick(unit, *value)), Named(Scale::exactly(0.0..1.0), "", &percent), &lines))
        (numbers(&shares.map(|share| percent(&share)), rows))
    }
}

/// The value that a share of the samples does not exceed: the first that is kept from there on.
fn at(points: &[(f64, f64)], share: f64) -> Option<f64> {
    points.iter().find(|(kept, _)| *kept >= share - 1e-9).map(|(_, value)| *value)
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
    fn points_along_an_axis_are_in_order_and_what_was_not_measured_is_none() {
        let places = BTreeSet::from([100_000, 10, 1000]);
        let at = |variant, place| (variant == Variant::Ours || place == 10).then(|| Summary::of(&[f64::from(place)]));
        let ours = line(Variant::Ours, &places, &at);
        assert_eq!(ours.places, [(10.0, 10.0), (1000.0, 1000.0), (100_000.0, 100_000.0)]);
        assert_eq!(line(Variant::Ptp, &places, &at).places.len(), 1);
    }

    #[test]
    fn single_place_of_value_zero_is_drawn() {
        let record = record(0, &[(Variant::Ours, 0.0)]);
        let chart = growth("flows", record.unit, Axis::Flows, &[&record]).into_string();
        assert!(chart.contains("<polygon") && !chart.contains("NaN") && !chart.contains("inf"), "{chart}");
    }

    #[test]
    fn curve_of_zeros_has_places_and_names() {
        let zeros = vec![(0.0, 0.0), (0.5, 0.0), (1.0, 0.0)];
        let variants = BTreeMap::from([(Variant::Ours, zeros), (Variant::Bare, vec![])]);
        let (id, title) = ("same-vm/tcp-round-trip".into(), "TCP".into());
        let one = Distribution { id, title, unit: Unit::Nanoseconds, variants };
        let chart = distribution("TCP", &one).into_string();
        assert!(chart.contains("azure-cni-ebpf") && !chart.contains("NaN") && !chart.contains("inf"), "{chart}");
    }

    #[test]
    fn value_at_a_share_is_the_first_that_is_kept_from_there_on() {
        let points = [(0.0, 1.0), (0.5, 2.0), (1.0, 9.0)];
        assert_eq!(at(&points, 0.5), Some(2.0));
        assert_eq!(at(&points, 0.99), Some(9.0));
    }
}
