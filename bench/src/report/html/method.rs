//! What the figures were measured on, and how: the end of the page.

use std::collections::BTreeSet;

use maud::{Markup, html};

use super::look;
use crate::{
    report::{Disturbed, NOISY, Report, text},
    subject::Mode,
    variant::Variant,
};

pub(super) fn banner(report: &Report) -> Markup {
    html! {
        @if report.is_noisy() && let Some(noise) = report.noise() {
            p class="noisy" role="note" {
                strong { "NOISY RUN" }
                ": the bare pair's own figures spread by up to " (format!("{:.1}", noise * 100.0)) " % ("
                (format!("{:.0}", NOISY * 100.0)) " % is where a run is called noisy). Other work on the machine makes single \
                values wide; ratios are formed within a round and suffer less, yet only those whose spread does not cross 1 say \
                anything."
            }
        }
    }
}

pub(super) fn section(report: &Report) -> Markup {
    html! {
        h3 { "Ways to attach pods" }
        (look::legend(&variants(report)))
        h3 { "Method" }
        (method(report))
        h3 { "Machine" }
        (machine(report))
    }
}

fn variants(report: &Report) -> Vec<Variant> {
    let of_records = report.records.iter().flat_map(|record| record.variants.keys());
    let variants: BTreeSet<Variant> =
        of_records.chain(report.distributions.iter().flat_map(|one| one.variants.keys())).copied().collect();
    variants.into_iter().collect()
}

fn machine(report: &Report) -> Markup {
    let mut facts: Vec<(&str, String)> = report.machine.facts();
    facts.extend(text::interfaces(&report.interfaces).map(|lines| ("Interfaces", lines.join("; "))));
    html! { dl { @for (name, fact) in &facts { dt { (name) } dd { (fact) } } } }
}

fn method(report: &Report) -> Markup {
    let method = &report.method;
    let mode = match method.mode {
        Mode::Quick => "quick",
        Mode::Default => "default",
        Mode::Full => "full",
    };
    let taken = std::time::Duration::try_from_secs_f64(method.seconds_taken).unwrap_or_default();
    html! {
        dl {
            dt { "Mode" } dd { (mode) }
            dt { "Rounds" } dd { (method.rounds) }
            dt { "Each load" } dd { (format!("{:.1} s", method.seconds_per_load)) }
            dt { "In all" } dd { (crate::unit::elapsed(taken)) }
            @if let Some(noise) = report.noise() {
                dt { "Noise" } dd { "the bare pair's own figures spread by up to " (format!("{:.1}", noise * 100.0)) " %" }
            }
            @if let Some(Disturbed { summary, worst }) = report.disturbed {
                dt { "Disturbance" }
                dd {
                    "other work held a load generator's core for " (format!("{:.1}", summary.median * 100.0))
                    " % of the time (median of all runs; at worst " (format!("{:.0}", worst * 100.0)) " %)"
                }
            }
        }
        p {
            "Every round measures each way to attach pods once, one right after the other. Values are medians over the rounds. \
            A ratio is azure-cni-ebpf's value to the other's in the same round; shown is the median over the rounds. A spread is \
            the interval that holds the median with at least 90 % certainty; the thin lines in the drawings show it. If a ratio's \
            spread crosses 1, there is no difference to speak of."
        }
    }
}
