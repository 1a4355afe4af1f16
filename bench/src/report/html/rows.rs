//! Charts of rows: one row for each variant, in groups below each other, with one axis. A value is a bar from zero, a ratio a
//! mark beside the line at 1, where there is no difference. Each has its spread and its number.

use plotters::{prelude::*, style::text_anchor::HPos};

use super::{
    chart::{self, Drawn, GRID, INK, SOFT, Scale, WIDTH},
    look, words,
};
use crate::{record::Record, statistics::Summary, unit::Unit, variant::Variant};

const ROW: f64 = 40.0;
const TITLE: f64 = 44.0;
const BETWEEN: f64 = 14.0;
const AXIS: u32 = 44;
/// The room that variants' names take, and that of "2.34 (1.21-2.56) no difference".
const NAMES: u32 = 256;
const UNNAMED: u32 = 48;
const RATIO: u32 = 346;

/// A value with its spread, and in words.
struct Row {
    variant: Variant,
    summary: Summary,
    said: String,
}

pub(super) struct Group {
    title: String,
    rows: Vec<Row>,
}

impl Group {
    /// The values of each variant.
    pub(super) fn values(title: impl Into<String>, record: &Record) -> Self {
        let rows = record.variants.iter().map(|(variant, series)| Row {
            variant: *variant,
            summary: series.summary,
            said: words::shown(record.unit, series.summary.median),
        });
        Self { title: title.into(), rows: rows.collect() }
    }

    /// The ratios to each variant that ours is compared with.
    pub(super) fn ratios(title: impl Into<String>, record: &Record) -> Self {
        let rows = record.ratios.iter().map(|(variant, comparison)| Row {
            variant: *variant,
            summary: comparison.summary,
            said: words::ratio(comparison),
        });
        Self { title: title.into(), rows: rows.collect() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn described(&self) -> String {
        let rows: Vec<String> = self.rows.iter().map(|row| format!("{} {}", row.variant.title(), row.said)).collect();
        format!("{}: {}.", self.title, rows.join(", "))
    }
}

fn values(groups: &[Group]) -> impl Iterator<Item = f64> {
    let summaries = groups.iter().flat_map(|group| &group.rows).map(|row| row.summary);
    summaries.flat_map(|summary| [summary.low, summary.median, summary.high])
}

/// Some of `all` groups, which have one axis.
pub(super) fn bars(title: &str, unit: Unit, shown: &[Group], all: &[Group]) -> maud::Markup {
    Rows { title, names: names(all), numbers: 150, scale: Scale::linear(values(all)), is_ratio: false }
        .draw(shown, |tick| words::tick(unit, tick))
}

pub(super) fn ratios(title: &str, groups: &[Group]) -> maud::Markup {
    // One is always in it, and as much on its either side that equal things do not look far apart.
    let scale = Scale::log(values(groups).chain([0.8, 1.25]));
    Rows { title, names: NAMES, numbers: RATIO, scale, is_ratio: true }.draw(groups, |tick| tick.to_string())
}

/// The room for names: that of half a word on the axis if there is only one variant.
fn names(groups: &[Group]) -> u32 {
    let mut variants = groups.iter().flat_map(|group| &group.rows).map(|row| row.variant);
    let first = variants.next();
    if variants.any(|variant| Some(variant) != first) { NAMES } else { UNNAMED }
}

struct Rows<'title> {
    title: &'title str,
    names: u32,
    /// The room for numbers.
    numbers: u32,
    scale: Scale,
    is_ratio: bool,
}

impl Rows<'_> {
    fn draw(&self, groups: &[Group], tick: impl Fn(f64) -> String) -> maud::Markup {
        let height: f64 = groups.iter().map(|group| TITLE + group.rows.len() as f64 * ROW + BETWEEN).sum();
        let described: Vec<String> = groups.iter().map(Group::described).collect();
        let size = (WIDTH, height as u32 + AXIS);
        chart::svg(("chart", self.title, &described.join(" ")), size, |canvas| {
            let mut plot = ChartBuilder::on(canvas)
                .set_label_area_size(LabelAreaPosition::Left, self.names)
                .set_label_area_size(LabelAreaPosition::Right, self.numbers)
                .set_label_area_size(LabelAreaPosition::Bottom, AXIS)
                .build_cartesian_2d(self.scale.clone(), Scale::exactly(height..0.0))?;
            plot.configure_mesh()
                .disable_y_mesh()
                .disable_y_axis()
                .x_labels(3)
                .max_light_lines(0)
                .bold_line_style(GRID.stroke_width(2))
                .axis_style(GRID.stroke_width(2))
                .x_label_formatter(&|value| tick(*value))
                .x_label_style(chart::font(22, SOFT, false, HPos::Center))
                .draw()?;
            let mut top = 0.0;
            let left = self.scale.range().start;
            for group in groups {
                let title = chart::font(21, INK, true, HPos::Left);
                let start = (left, top + TITLE / 2.0);
                plot.plotting_area().draw(&chart::words(start, -(self.names as i32), &*group.title, title))?;
                top += TITLE;
                for row in &group.rows {
                    if [row.summary.low, row.summary.median, row.summary.high].iter().all(|value| value.is_finite()) {
                        self.mark(plot.plotting_area(), row, top + ROW / 2.0)?;
                    }
                    self.write(plot.plotting_area(), row, top + ROW / 2.0)?;
                    top += ROW;
                }
                top += BETWEEN;
            }
            Ok(())
        })
    }

    fn mark(&self, area: &DrawingArea<SVGBackend, Cartesian2d<Scale, Scale>>, row: &Row, middle: f64) -> Drawn {
        let Summary { low, median, high } = row.summary;
        if self.is_ratio {
            area.draw(&PathElement::new(
                vec![(1.0, middle - ROW / 2.0), (1.0, middle + ROW / 2.0)],
                INK.stroke_width(2),
            ))?;
        } else {
            let corners = [(0.0, middle - ROW * 0.33), (median, middle + ROW * 0.33)];
            area.draw(&Rectangle::new(corners, look::colour(row.variant).mix(0.75).filled()))?;
        }
        if high > low {
            chart::whisker((low, middle), (high, middle), INK).into_iter().try_for_each(|part| area.draw(&part))?;
        }
        if self.is_ratio { area.draw(&look::mark(row.variant, (median, middle))) } else { Ok(()) }
    }

    fn write(&self, area: &DrawingArea<SVGBackend, Cartesian2d<Scale, Scale>>, row: &Row, middle: f64) -> Drawn {
        let std::ops::Range { start, end } = self.scale.range();
        if self.names > UNNAMED {
            let name = chart::font(22, INK, row.variant == Variant::Ours, HPos::Right);
            area.draw(&chart::words((start, middle), -12, row.variant.title(), name))?;
        }
        let after = if self.is_ratio {
            end
        } else {
            [row.summary.high, row.summary.median, 0.0].into_iter().fold(start, f64::max)
        };
        area.draw(&chart::words((after, middle), 12, &*row.said, chart::font(22, INK, false, HPos::Left)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn record(ours: &[f64]) -> Record {
        let samples = BTreeMap::from([(Variant::Ours, ours.to_vec()), (Variant::Ptp, vec![1.0; ours.len()])]);
        Record::new("same-vm/packet-rate", "UDP", None, Unit::PacketsPerSecond, samples)
    }

    /// Of ours and of one with the value 1.
    fn widths(ours: f64) -> Vec<f64> {
        let groups = [Group::values("group", &record(&[ours]))];
        let chart = bars("chart", Unit::Bytes, &groups, &groups).into_string();
        let width = |rect: &str| rect.split("width=\"").nth(1)?.split('"').next()?.parse().ok();
        chart.split("<rect").skip(1).filter_map(width).collect()
    }

    #[test]
    fn length_of_a_bar_is_proportional_to_its_value() {
        let widths = [4.0, 0.0].map(widths);
        assert!((widths[0][0] / widths[0][1] - 4.0).abs() < 0.1, "{widths:?}");
        assert_eq!(widths[1][0], 0.0);
    }

    #[test]
    fn spread_that_crosses_one_is_said_to_be_no_difference() {
        let record = record(&[0.9, 1.0, 1.1, 1.2, 1.3]);
        let chart = ratios("ratios", &[Group::ratios("same VM", &record)]).into_string();
        assert!(chart.contains("1.10 (0.90-1.30) no difference") && chart.contains("ptp + iptables"));
    }
}
