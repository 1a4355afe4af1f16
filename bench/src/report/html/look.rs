//! How a variant looks, everywhere: a colour, and a mark that no other has, so that a reader need not see the colours.

use clap::ValueEnum;
use maud::{Markup, html};
use plotters::prelude::*;

use super::chart;
use crate::variant::Variant;

/// Every variant, what it is about first.
fn all() -> impl Iterator<Item = Variant> {
    std::iter::once(Variant::Ours).chain(Variant::PEERS)
}

pub(super) fn colour(variant: Variant) -> RGBColor {
    match variant {
        Variant::Ours => RGBColor(11, 87, 164),
        Variant::Bridge => RGBColor(176, 58, 0),
        Variant::OursServicesKnown => RGBColor(125, 90, 0),
        Variant::Ptp => RGBColor(0, 105, 92),
        Variant::Bare => RGBColor(77, 86, 97),
        Variant::LowerBound => RGBColor(123, 50, 148),
    }
}

/// The corners of a mark around its place, and whether it is filled.
fn outline(variant: Variant) -> (Vec<(i32, i32)>, bool) {
    let circle = || {
        let corner = |index: i32| (f64::from(index) * std::f64::consts::TAU / 16.0).sin_cos();
        (0..16).map(corner).map(|(sin, cos)| ((cos * 8.5).round() as i32, (sin * 8.5).round() as i32)).collect()
    };
    match variant {
        Variant::Ours => (circle(), true),
        Variant::Bare => (circle(), false),
        Variant::Bridge => (vec![(-7, -7), (7, -7), (7, 7), (-7, 7)], true),
        Variant::OursServicesKnown => (vec![(0, -10), (10, 0), (0, 10), (-10, 0)], false),
        Variant::Ptp => (vec![(0, -10), (10, 7), (-10, 7)], true),
        Variant::LowerBound => (vec![(0, 10), (10, -7), (-10, -7)], false),
    }
}

pub(super) fn mark<'text, At: Clone + 'text>(variant: Variant, at: At) -> chart::Element<'text, At> {
    let (mut corners, is_filled) = outline(variant);
    let inside = Polygon::new(corners.clone(), if is_filled { colour(variant) } else { WHITE });
    corners.extend_from_within(..2);
    (EmptyElement::at(at) + inside + PathElement::new(corners, colour(variant).stroke_width(3))).into_dyn()
}

/// A line with its mark, beside the variant's name.
pub(super) fn key(variant: Variant) -> Markup {
    chart::svg(("key", variant.title(), ""), (64, 24), |canvas| {
        canvas.draw(&PathElement::new(vec![(0, 12), (64, 12)], colour(variant).stroke_width(4)))?;
        canvas.draw(&mark(variant, (32, 12)))
    })
}

/// What looks how, and what it is.
pub(super) fn legend(measured: &[Variant]) -> Markup {
    let meaning = |variant: Variant| {
        let value = variant.to_possible_value();
        let help = value.and_then(|value| Some(value.get_help()?.to_string())).unwrap_or_default();
        help.trim_start_matches(variant.title()).trim_start_matches(": ").to_owned()
    };
    html! {
        ul class="legend" {
            @for variant in all().filter(|variant| measured.contains(variant)) {
                li {
                    (key(variant))
                    span {
                        b { (variant.title()) } ": " (meaning(variant))
                        @if !variant.is_reference() && !variant.is_ours() { "; a measure, not a choice" }
                        "."
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_variants_look_alike_without_colours() {
        assert_eq!(all().map(outline).collect::<BTreeSet<_>>().len(), all().count());
    }

    #[test]
    fn legend_explains_the_variants_that_were_measured_and_no_others() {
        let legend = legend(&[Variant::Ours, Variant::Ptp]).into_string();
        assert!(
            legend.contains("azure-cni-ebpf")
                && legend.contains("ptp + iptables")
                && !legend.contains("bare veth pair")
        );
    }
}
