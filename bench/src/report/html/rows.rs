//! Drawings of rows: one row for each variant, in groups below each other, with one axis. What stands in a row is the caller's.

use maud::{Markup, html};

use super::{labels, look, scale::Scale};
use crate::{statistics::Summary, variant::Variant};

/// Of every drawing, so that its words are as large as those around it on a phone, and no larger elsewhere.
pub(super) const WIDTH: f64 = 400.0;
const ROW: f64 = 20.0;
/// Of a title's line, and around it.
const LINE: f64 = 15.0;
const PADDING: f64 = 5.0;
const BETWEEN: f64 = 8.0;
const AXIS: f64 = 22.0;
/// The room that variants' names take.
pub(super) const NAMES: f64 = 128.0;

/// A value with its spread, and in words.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) variant: Variant,
    pub(super) summary: Summary,
    pub(super) said: String,
}

#[derive(Debug, Clone)]
pub(super) struct Group {
    pub(super) title: String,
    pub(super) rows: Vec<Row>,
}

/// The room for names: none if there is only one variant.
pub(super) fn names(groups: &[Group]) -> f64 {
    let mut variants = groups.iter().flat_map(|group| &group.rows).map(|row| row.variant);
    let first = variants.next();
    if variants.any(|variant| Some(variant) != first) { NAMES } else { 0.0 }
}

pub(super) fn values(groups: &[Group]) -> impl Iterator<Item = f64> {
    let summaries = groups.iter().flat_map(|group| &group.rows).map(|row| row.summary);
    summaries.flat_map(|summary| [summary.low, summary.median, summary.high])
}

/// Names stand before `names`; `mark` draws a row around its middle's height.
pub(super) fn draw(
    (title, groups): (&str, &[Group]),
    names: f64,
    scale: &Scale,
    name: impl Fn(f64) -> String,
    mark: impl Fn(&Row, f64) -> Markup,
) -> Markup {
    let height_of = |group: &Group| head(group) + group.rows.len() as f64 * ROW + BETWEEN;
    let bottom: f64 = groups.iter().map(height_of).sum();
    let first_head = groups.first().map_or(0.0, head);
    let mut top = 0.0;
    let tops = groups.iter().map(|group| {
        let own = top;
        top += height_of(group);
        own
    });
    html! {
        svg role="img" viewBox={ "0 0 " (WIDTH) " " (bottom + AXIS) } {
            title { (title) }
            desc { (described(groups)) }
            @for tick in &scale.ticks {
                @let x = scale.place(*tick);
                line class="grid" x1=(x) x2=(x) y1=(first_head) y2=(bottom) {}
                text class="tick" x=(x) y=(bottom + 14.0) text-anchor=(anchor(x)) { (name(*tick)) }
            }
            @for (group, top) in groups.iter().zip(tops) {
                @for (index, line) in titled(group).iter().enumerate() {
                    text class="group" x="0" y=(top + 13.0 + index as f64 * LINE) { (line) }
                }
                @for (index, row) in group.rows.iter().enumerate() {
                    @let middle = top + head(group) + (index as f64 + 0.5) * ROW;
                    g class=(look::class(row.variant)) {
                        title { (row.variant.title()) ": " (row.said) }
                        @if names > 0.0 {
                            text class="name" x=(names - 6.0) y=(middle + 4.0) text-anchor="end" { (row.variant.title()) }
                        }
                        (mark(row, middle))
                    }
                }
            }
        }
    }
}

/// In bold type, which is wider.
fn titled(group: &Group) -> Vec<String> {
    labels::lines(&group.title, WIDTH * 0.84)
}

fn head(group: &Group) -> f64 {
    titled(group).len() as f64 * LINE + PADDING
}

/// Words at the drawing's right edge end there.
fn anchor(x: f64) -> &'static str {
    match x {
        x if x > WIDTH - 20.0 => "end",
        x if x < 20.0 => "start",
        _ => "middle",
    }
}

fn described(groups: &[Group]) -> String {
    let rows = |group: &Group| {
        let said: Vec<String> = group.rows.iter().map(|row| format!("{} {}", row.variant.title(), row.said)).collect();
        format!("{}: {}.", group.title, said.join(", "))
    };
    groups.iter().map(rows).collect::<Vec<_>>().join(" ")
}
