//! The promises that the run measured, and whether this machine keeps them.

use maud::{Markup, html};

use super::tables::in_box;
use crate::report::{
    Report,
    promises::{Outcome, Verdict},
};

/// `None` if the run measured none of them.
pub(super) fn section(report: &Report) -> Option<Markup> {
    let outcomes = report.outcomes();
    let (measured, rest): (Vec<_>, Vec<_>) =
        outcomes.iter().partition(|outcome| outcome.verdict() != Verdict::NotMeasured);
    (!measured.is_empty()).then(|| {
        html! {
            p {
                "What the project promises of a default installation, and what this run says on this machine. A promise is kept (not \
                kept) if the whole spread is on the right (wrong) side of the bound; if the spread crosses it, one cannot tell. \
                Redirect only is the lower bound of what any eBPF data path costs on these hops."
            }
            (in_box("Promises", table(&measured)))
            @if !rest.is_empty() {
                p class="soft" { "Not measured: " (rest.iter().map(|outcome| outcome.name()).collect::<Vec<_>>().join(", ")) "." }
            }
        }
    })
}

fn table(outcomes: &[&Outcome]) -> Markup {
    html! {
        table class="promises" {
            caption { "Promises" }
            thead {
                tr { @for title in ["", "Promise", "Verdict", "Measured", "Promised", "Aim", "Redirect only"] { th scope="col" { (title) } } }
            }
            tbody {
                @for outcome in outcomes {
                    tr {
                        td { (outcome.name()) }
                        th scope="row" { (outcome.promise.text) }
                        td { @if outcome.verdict() == Verdict::NotKept { strong { (outcome.judged()) } } @else { (outcome.judged()) } }
                        @for cell in [outcome.measured(), outcome.promised(), outcome.aim(), outcome.lower_bound()] { td { (cell) } }
                    }
                }
            }
        }
    }
}
