//! How a variant looks, everywhere: a colour, a pattern for areas, a dash and a mark for lines. No two share a pattern or a mark,
//! so that a reader need not see the colours.

use clap::ValueEnum;
use maud::{Markup, html};

use crate::variant::Variant;

/// Every variant, what it is about first.
fn all() -> impl Iterator<Item = Variant> {
    std::iter::once(Variant::Ours).chain(Variant::PEERS)
}

/// The class that colours all of a variant's marks.
pub(super) fn class(variant: Variant) -> &'static str {
    match variant {
        Variant::Bare => "bare",
        Variant::LowerBound => "lower-bound",
        Variant::Ours => "ours",
        Variant::Bridge => "bridge",
        Variant::OursServicesKnown => "services-known",
        Variant::Ptp => "ptp",
    }
}

/// Of lines: on and off.
pub(super) fn dash(variant: Variant) -> &'static str {
    match variant {
        Variant::Ours => "none",
        Variant::Bridge => "7 3",
        Variant::OursServicesKnown => "7 3 2 3",
        Variant::Ptp => "2 3",
        Variant::Bare => "12 3",
        Variant::LowerBound => "4 4",
    }
}

/// The outline of a line's mark around a place, and whether it is filled.
pub(super) fn mark(variant: Variant, x: f64, y: f64) -> Markup {
    let (outline, is_filled) = match variant {
        Variant::Ours => ("m-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z", true),
        Variant::Bare => ("m-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z", false),
        Variant::Bridge => ("m-3.6 -3.6h7.2v7.2h-7.2z", true),
        Variant::OursServicesKnown => ("m0 -5l5 5l-5 5l-5 -5z", false),
        Variant::Ptp => ("m0 -4.8l4.8 8.4h-9.6z", true),
        Variant::LowerBound => ("m0 4.8l4.8 -8.4h-9.6z", false),
    };
    let class = if is_filled { "mark" } else { "mark hollow" };
    html! { path class=(class) d={ "M" (x) " " (y) (outline) } {} }
}

/// The patterns that bars are filled with, for all drawings of the page.
pub(super) fn patterns() -> Markup {
    html! {
        svg class="patterns" width="0" height="0" aria-hidden="true" focusable="false" {
            defs {
                @for variant in all() {
                    pattern id={ "fill-" (class(variant)) } class=(class(variant)) width="8" height="8" patternUnits="userSpaceOnUse" {
                        rect class="paper" width="8" height="8" {}
                        (texture(variant))
                    }
                }
            }
        }
    }
}

fn texture(variant: Variant) -> Markup {
    let lines = match variant {
        Variant::Ours => return html! { rect class="ink" width="8" height="8" {} },
        Variant::Bare => return html! {},
        Variant::LowerBound => {
            return html! { circle class="ink" cx="2" cy="2" r="1.3" {} circle class="ink" cx="6" cy="6" r="1.3" {} };
        }
        Variant::Bridge => "M-2 2l4 -4M0 8l8 -8M6 10l4 -4",
        Variant::OursServicesKnown => "M0 0l8 8M0 8l8 -8",
        Variant::Ptp => "M2 0v8M6 0v8",
    };
    html! { path class="ink-line" d=(lines) {} }
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
                    svg class=(class(variant)) width="64" height="16" viewBox="0 0 64 16" aria-hidden="true" {
                        rect class="bar" x="1" y="2" width="24" height="12" fill={ "url(#fill-" (class(variant)) ")" } {}
                        path class="line" d="M30 8H64" stroke-dasharray=(dash(variant)) {}
                        (mark(variant, 47.0, 8.0))
                    }
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
        let is_shared = |look: fn(Variant) -> String| all().map(look).collect::<BTreeSet<_>>().len() != all().count();
        assert!(!is_shared(|variant| texture(variant).into_string()), "patterns");
        assert!(!is_shared(|variant| dash(variant).into()), "dashes");
        assert!(!is_shared(|variant| mark(variant, 0.0, 0.0).into_string()), "marks");
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
