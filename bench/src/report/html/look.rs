//! How an arm looks, everywhere: a colour, a pattern for areas, a dash and a mark for lines. No two share a pattern or a mark,
//! so that nobody needs to see the colours.

use clap::ValueEnum;
use maud::{Markup, html};

use crate::arm::Arm;

/// Every arm, what it is about first.
fn all() -> impl Iterator<Item = Arm> {
    std::iter::once(Arm::Ours).chain(Arm::PEERS)
}

/// The class that colours all of an arm's marks.
pub(super) fn class(arm: Arm) -> &'static str {
    match arm {
        Arm::Bare => "bare",
        Arm::Floor => "floor",
        Arm::Ours => "ours",
        Arm::Bridge => "bridge",
        Arm::BridgeLegacy => "legacy",
        Arm::Ptp => "ptp",
    }
}

/// Of lines: on and off.
pub(super) fn dash(arm: Arm) -> &'static str {
    match arm {
        Arm::Ours => "none",
        Arm::Bridge => "7 3",
        Arm::BridgeLegacy => "7 3 2 3",
        Arm::Ptp => "2 3",
        Arm::Bare => "12 3",
        Arm::Floor => "4 4",
    }
}

/// The outline of a line's mark around a place, and whether it is filled.
pub(super) fn mark(arm: Arm, x: f64, y: f64) -> Markup {
    let (outline, is_filled) = match arm {
        Arm::Ours => ("m-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z", true),
        Arm::Bare => ("m-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z", false),
        Arm::Bridge => ("m-3.6 -3.6h7.2v7.2h-7.2z", true),
        Arm::BridgeLegacy => ("m0 -5l5 5l-5 5l-5 -5z", false),
        Arm::Ptp => ("m0 -4.8l4.8 8.4h-9.6z", true),
        Arm::Floor => ("m0 4.8l4.8 -8.4h-9.6z", false),
    };
    let class = if is_filled { "mark" } else { "mark hollow" };
    html! { path class=(class) d={ "M" (x) " " (y) (outline) } {} }
}

/// The patterns that bars are filled with, for all drawings of the page.
pub(super) fn patterns() -> Markup {
    html! {
        svg class="patterns" width="0" height="0" aria-hidden="true" focusable="false" {
            defs {
                @for arm in all() {
                    pattern id={ "fill-" (class(arm)) } class=(class(arm)) width="8" height="8" patternUnits="userSpaceOnUse" {
                        rect class="paper" width="8" height="8" {}
                        (texture(arm))
                    }
                }
            }
        }
    }
}

fn texture(arm: Arm) -> Markup {
    let lines = match arm {
        Arm::Ours => return html! { rect class="ink" width="8" height="8" {} },
        Arm::Bare => return html! {},
        Arm::Floor => {
            return html! { circle class="ink" cx="2" cy="2" r="1.3" {} circle class="ink" cx="6" cy="6" r="1.3" {} };
        }
        Arm::Bridge => "M-2 2l4 -4M0 8l8 -8M6 10l4 -4",
        Arm::BridgeLegacy => "M0 0l8 8M0 8l8 -8",
        Arm::Ptp => "M2 0v8M6 0v8",
    };
    html! { path class="ink-line" d=(lines) {} }
}

/// What looks how, and what it is.
pub(super) fn legend(measured: &[Arm]) -> Markup {
    let meaning = |arm: Arm| {
        let value = arm.to_possible_value();
        let help = value.and_then(|value| Some(value.get_help()?.to_string())).unwrap_or_default();
        help.trim_start_matches(arm.title()).trim_start_matches(": ").to_owned()
    };
    html! {
        ul class="legend" {
            @for arm in all().filter(|arm| measured.contains(arm)) {
                li {
                    svg class=(class(arm)) width="64" height="16" viewBox="0 0 64 16" aria-hidden="true" {
                        rect class="bar" x="1" y="2" width="24" height="12" fill={ "url(#fill-" (class(arm)) ")" } {}
                        path class="line" d="M30 8H64" stroke-dasharray=(dash(arm)) {}
                        (mark(arm, 47.0, 8.0))
                    }
                    span {
                        b { (arm.title()) } ": " (meaning(arm))
                        @if !arm.is_reference() && arm != Arm::Ours { "; a measure, not a choice" }
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
    fn no_two_arms_look_alike_without_colours() {
        let alike = |look: fn(Arm) -> String| all().map(look).collect::<BTreeSet<_>>().len() != all().count();
        assert!(!alike(|arm| texture(arm).into_string()), "patterns");
        assert!(!alike(|arm| dash(arm).into()), "dashes");
        assert!(!alike(|arm| mark(arm, 0.0, 0.0).into_string()), "marks");
    }

    #[test]
    fn legend_explains_the_arms_that_were_measured_and_no_others() {
        let legend = legend(&[Arm::Ours, Arm::Ptp]).into_string();
        assert!(
            legend.contains("azure-cni-ebpf")
                && legend.contains("ptp + iptables")
                && !legend.contains("bare veth pair")
        );
    }
}
