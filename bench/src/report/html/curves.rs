//! Lines of variants in a drawing with two axes, each with its dash and its marks.

use maud::{Markup, html};

use super::{
    look,
    scale::{Scale, px},
};
use crate::variant::Variant;

/// Where in a drawing the plot is.
pub(super) struct Plot {
    pub(super) left: f64,
    pub(super) right: f64,
    pub(super) top: f64,
    pub(super) bottom: f64,
}

/// One variant's: places in the drawing, and which of them have a mark.
pub(super) struct Curve {
    pub(super) variant: Variant,
    pub(super) places: Vec<(f64, f64)>,
    pub(super) marked: Vec<(f64, f64)>,
}

impl Curve {
    pub(super) fn draw(&self) -> Markup {
        let path: Vec<String> = self.places.iter().map(|(x, y)| format!("{} {}", px(*x), px(*y))).collect();
        html! {
            path class="line" d={ "M" (path.join("L")) } stroke-dasharray=(look::dash(self.variant)) {}
            @for (x, y) in &self.marked { (look::mark(self.variant, px(*x), px(*y))) }
        }
    }
}

/// A vertical axis with its lines across the plot.
pub(super) fn vertical(plot: &Plot, scale: &Scale, name: impl Fn(f64) -> String) -> Markup {
    html! {
        @for tick in &scale.ticks {
            @let y = scale.place(*tick);
            line class="grid" x1=(plot.left) x2=(plot.right) y1=(y) y2=(y) {}
            text class="tick" x=(plot.left - 5.0) y=(y + 4.0) text-anchor="end" { (name(*tick)) }
        }
    }
}

/// A horizontal axis with a name at each place; names that would lie on the one before are left out.
pub(super) fn horizontal(plot: &Plot, places: impl Iterator<Item = (f64, String)>, title: &str) -> Markup {
    let mut free_from = f64::NEG_INFINITY;
    let names = places.map(|(x, name)| {
        let half = super::labels::width(&name) / 2.0;
        let is_free = x - half > free_from;
        if is_free {
            free_from = x + half + 4.0;
        }
        (px(x), is_free.then_some(name))
    });
    html! {
        @for (x, name) in names {
            line class="grid" x1=(x) x2=(x) y1=(plot.top) y2=(plot.bottom) {}
            @if let Some(name) = name {
                text class="tick" x=(x) y=(plot.bottom + 14.0) text-anchor="middle" { (name) }
            }
        }
        text class="tick" x=((plot.left + plot.right) / 2.0) y=(plot.bottom + 29.0) text-anchor="middle" { (title) }
    }
}
