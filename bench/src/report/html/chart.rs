//! What all charts share: the drawing that plotters makes, with its axes and words, as a part of the page.
//!
//! Total: whatever the values are, a place is a number within the chart. On a logarithmic axis what is not above zero lies at
//! its low end.

use std::ops::Range;

use maud::{Markup, PreEscaped, html};
use plotters::{
    coord::{
        ranged1d::{DefaultFormatting, KeyPointHint},
        types::RangedCoordf64,
    },
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

/// Finer than pixels of the page: plotters rounds places to whole numbers.
pub(super) const WIDTH: u32 = 800;
pub(super) const INK: RGBColor = RGBColor(27, 31, 36);
pub(super) const SOFT: RGBColor = RGBColor(87, 96, 106);
pub(super) const GRID: RGBColor = RGBColor(226, 230, 235);
const CAP: i32 = 7;

pub(super) type Canvas<'text> = DrawingArea<SVGBackend<'text>, plotters::coord::Shift>;
pub(super) type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;
pub(super) type Element<'text, At> = DynElement<'text, SVGBackend<'text>, At>;

/// What `draw` draws, said to those who do not see it as `title` and `described`.
pub(super) fn svg(
    (class, title, described): (&str, &str, &str),
    (width, height): (u32, u32),
    draw: impl FnOnce(&Canvas) -> Drawn,
) -> Markup {
    let mut text = String::new();
    {
        let canvas = SVGBackend::with_string(&mut text, (width, height)).into_drawing_area();
        draw(&canvas).and_then(|()| canvas.present()).expect("a string takes any drawing");
    }
    // A page needs no name of the namespace.
    let drawn = text.split_once('>').map_or("", |(_, rest)| rest).trim_end().trim_end_matches("</svg>");
    html! {
        svg class=(class) role="img" viewBox={ "0 0 " (width) " " (height) } {
            title { (title) } desc { (described) } (PreEscaped(drawn))
        }
    }
}

pub(super) fn font(size: u32, colour: RGBColor, bold: bool, anchor: HPos) -> TextStyle<'static> {
    let style = if bold { FontStyle::Bold } else { FontStyle::Normal };
    // In SVG, plotters divides sizes by this.
    let font = ("system-ui, sans-serif", f64::from(size) * 1.24, style).into_font();
    font.color(&colour).pos(Pos::new(anchor, VPos::Center))
}

/// Words beside a place.
pub(super) fn words<'text>(
    at: (f64, f64),
    aside: i32,
    words: impl Into<String>,
    style: TextStyle<'static>,
) -> Element<'text, (f64, f64)> {
    (EmptyElement::at(at) + Text::new(words.into(), (aside, 0), style)).into_dyn()
}

/// A spread, from one place to another, with a cap at each end.
pub(super) fn whisker<'text>(from: (f64, f64), to: (f64, f64), colour: RGBColor) -> [Element<'text, (f64, f64)>; 3] {
    let style = colour.stroke_width(2);
    let cap = if from.1 == to.1 { vec![(0, -CAP), (0, CAP)] } else { vec![(-CAP, 0), (CAP, 0)] };
    let end = |at| (EmptyElement::at(at) + PathElement::new(cap.clone(), style)).into_dyn();
    [PathElement::new(vec![from, to], style).into_dyn(), end(from), end(to)]
}

/// An axis: what it covers, and the round values that it names.
#[derive(Debug, Clone)]
pub(super) struct Scale {
    is_log: bool,
    range: Range<f64>,
    /// `None` leaves them to plotters.
    ticks: Option<Vec<f64>>,
}

impl Scale {
    /// Exactly that.
    pub(super) fn exactly(range: Range<f64>) -> Self {
        Self { is_log: false, range, ticks: None }
    }

    /// From zero, or from below it if a value is below, to a little above the largest.
    pub(super) fn linear(values: impl IntoIterator<Item = f64>) -> Self {
        let (low, high) = ends(values).map_or((0.0, 0.0), |(low, high)| (low.min(0.0), high.max(0.0)));
        Self::exactly(low..if low == high { 1.0 } else { high + (high - low) * 0.03 })
    }

    /// From the round value below the smallest that is above zero to the round value above the largest.
    pub(super) fn log(values: impl IntoIterator<Item = f64>) -> Self {
        let (low, high) = ends(values.into_iter().filter(|value| *value > 0.0)).unwrap_or((1.0, 10.0));
        let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32 + 1);
        let rungs = (first..=last).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(power)));
        let rungs: Vec<f64> = rungs.collect();
        let start = rungs.iter().rposition(|rung| *rung <= low * 1.000_001).unwrap_or(0);
        let end = rungs.iter().position(|rung| *rung >= high * 0.999_999).unwrap_or(rungs.len() - 1).max(start + 1);
        let range = rungs[start]..rungs[end];
        // Each of 1, 2 and 5 while there is room for the words, powers of ten beyond.
        let every = if end - start < 7 { 1 } else { 3 };
        let ticks = rungs[start..=end].iter().enumerate().filter(|(index, _)| (start + index) % every == 0);
        Self { is_log: true, range, ticks: Some(ticks.map(|(_, rung)| *rung).collect()) }
    }

    /// Over the places measured, which it names; logarithmic if they lie far apart.
    pub(super) fn over(places: Vec<f64>) -> Self {
        let (low, high) = ends(places.iter().copied()).unwrap_or((0.0, 1.0));
        let is_log = low > 0.0 && high / low >= 20.0;
        let aside = if low == high {
            1.0
        } else if is_log {
            (high / low).powf(0.05)
        } else {
            (high - low) * 0.05
        };
        let range = if is_log { low / aside..high * aside } else { low - aside..high + aside };
        Self { is_log, range, ticks: Some(places) }
    }

    /// The place that lies a share of the axis further along.
    pub(super) fn beside(&self, value: f64, share: f64) -> f64 {
        let Range { start, end } = self.range;
        if self.is_log { value * (end / start).powf(share) } else { value + (end - start) * share }
    }
}

impl Ranged for Scale {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let along = |value: f64| if self.is_log { value.max(self.range.start).ln() } else { value };
        let (start, end) = (along(self.range.start), along(self.range.end));
        let value = along(*value).clamp(start.min(end), start.max(end));
        RangedCoordf64::from(start..end).map(&value, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        self.ticks.clone().unwrap_or_else(|| RangedCoordf64::from(self.range.clone()).key_points(hint))
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

fn ends(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    let finite = values.into_iter().filter(|value| value.is_finite());
    finite.map(|value| (value, value)).reduce(|(low, high), (value, _)| (low.min(value), high.max(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axis_covers_the_values_and_larger_ones_lie_further_along() {
        for values in [vec![3.0, 7.0], vec![0.0, 254_123.0], vec![27_000.0, 5e7], vec![-3.0, 8.0], vec![5.0; 2], vec![]]
        {
            for scale in [Scale::linear(values.clone()), Scale::log(values.clone()), Scale::over(values.clone())] {
                let ticks = scale.key_points(5);
                assert!(ticks.len() <= 9 && ticks.iter().all(|tick| tick.is_finite()), "{values:?}: {scale:?}");
                assert!(values.iter().all(|value| *value <= scale.range.end * 1.000_001), "{values:?}: {scale:?}");
                assert!(values.iter().map(|value| scale.map(value, (0, 300))).is_sorted(), "{values:?}: {scale:?}");
            }
        }
    }

    #[test]
    fn what_is_not_above_zero_lies_at_the_low_end_of_a_logarithmic_axis() {
        let scale = Scale::log([0.0, -5.0, 10.0, 1000.0]);
        for value in [0.0, -5.0, f64::NEG_INFINITY, f64::NAN] {
            assert_eq!(scale.map(&value, (20, 120)), 20, "{value}");
        }
    }
}
