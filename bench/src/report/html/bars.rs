//! Values as bars from zero, each with its spread and its number.

use maud::{Markup, html};

use super::{
    labels, look,
    rows::{self, Group, Row, WIDTH},
    scale::{Scale, px},
    words,
};
use crate::{record::Record, unit::Unit};

const THICKNESS: f64 = 13.0;
const WHISKER: f64 = 3.5;

/// A group's rows: one of each variant.
pub(super) fn group(title: impl Into<String>, record: &Record) -> Group {
    let row = |(variant, series): (&crate::variant::Variant, &crate::record::Series)| Row {
        variant: *variant,
        summary: series.summary,
        said: words::shown(record.unit, series.summary.median),
    };
    Group { title: title.into(), rows: record.variants.iter().map(row).collect() }
}

pub(super) fn chart(title: &str, unit: Unit, groups: &[Group]) -> Markup {
    part(title, unit, groups, groups)
}

/// Some of `all` groups, which have one axis.
pub(super) fn part(title: &str, unit: Unit, shown: &[Group], all: &[Group]) -> Markup {
    let said = all.iter().flat_map(|group| &group.rows).map(|row| labels::width(&row.said));
    let room = said.fold(0.0, f64::max) + 8.0;
    let names = rows::names(all);
    let scale = Scale::linear(rows::values(all), (names + 1.0, WIDTH - room), 4);
    rows::draw((title, shown), names, &scale, |tick| words::tick(unit, tick), |row, middle| bar(row, middle, &scale))
}

fn bar(row: &Row, middle: f64, scale: &Scale) -> Markup {
    let [zero, low, median, high] =
        [0.0, row.summary.low, row.summary.median, row.summary.high].map(|value| scale.place(value));
    let fill = format!("url(#fill-{})", look::class(row.variant));
    html! {
        rect class="bar" x=(zero.min(median)) y=(middle - THICKNESS / 2.0) width=(px((median - zero).abs())) height=(THICKNESS)
            fill=(fill) {}
        @if high > low {
            @let (up, down) = (middle - WHISKER, middle + WHISKER);
            @let whisker = format!("M{low} {up}V{down}M{high} {up}V{down}M{low} {middle}H{high}");
            path class="halo" d=(whisker) {}
            path class="whisker" d=(whisker) {}
        }
        text class="value" x=(px(high.max(median) + 6.0)) y=(middle + 4.0) { (row.said) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{statistics::Summary, variant::Variant};

    fn widths(values: &[f64]) -> Vec<f64> {
        let row = |value: &f64| Row { variant: Variant::Ours, summary: Summary::of(&[*value]), said: "value".into() };
        let groups = [Group { title: "group".into(), rows: values.iter().map(row).collect() }];
        let chart = chart("chart", Unit::Bytes, &groups).into_string();
        let bars = chart.split("class=\"bar\"").skip(1);
        bars.map(|bar| {
            bar.split("width=\"").nth(1).and_then(|text| text.split('"').next()?.parse().ok()).expect("a width")
        })
        .collect()
    }

    #[test]
    fn length_of_a_bar_is_proportional_to_its_value() {
        let widths = widths(&[100.0, 50.0, 25.0, 0.0]);
        assert!((widths[0] / widths[1] - 2.0).abs() < 0.01 && (widths[0] / widths[2] - 4.0).abs() < 0.01, "{widths:?}");
        assert_eq!(widths[3], 0.0);
    }

    #[test]
    fn bars_of_nothing_but_zero_have_no_length() {
        assert_eq!(widths(&[0.0, 0.0]), [0.0, 0.0]);
    }
}
