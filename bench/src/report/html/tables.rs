//! Every figure in tables, as the text report has them.

use std::collections::BTreeSet;

use azure_cni_agent::api::StepTime;
use maud::{Markup, html};

use super::words;
use crate::{
    arm::Arm,
    record::{Record, Series},
    unit::Unit,
};

/// What may be wider than the page scrolls in a box of its own.
fn in_box(name: &str, table: Markup) -> Markup {
    html! { div class="box" tabindex="0" role="region" aria-label=(name) { (table) } }
}

pub(super) fn records(caption: &str, records: &[&Record]) -> Markup {
    let arms: BTreeSet<Arm> = records.iter().flat_map(|record| record.arms.keys().copied()).collect();
    let peers: BTreeSet<Arm> = records.iter().flat_map(|record| record.ratios.keys().copied()).collect();
    let table = html! {
        table {
            caption { (caption) }
            thead {
                tr {
                    th scope="col" { "Figure" }
                    @for arm in &arms { th scope="col" { (arm.title()) } }
                    @for peer in &peers { th scope="col" { "to " (peer.title()) } }
                }
            }
            tbody {
                @for record in records {
                    tr {
                        th scope="row" class=[record.title.starts_with(' ').then_some("part")] {
                            (record.full_title().trim_start())
                        }
                        @for arm in &arms { td { (series(record.unit, record.arms.get(arm))) } }
                        @for peer in &peers { td { (record.ratios.get(peer).map(words::ratio).unwrap_or_default()) } }
                    }
                    @if !record.beyond_bare.is_empty() {
                        tr {
                            th scope="row" class="part" { "beyond a bare veth pair" }
                            @for arm in &arms { td { (series(record.unit, record.beyond_bare.get(arm))) } }
                            @for peer in &peers {
                                td { (record.beyond_bare_ratios.get(peer).map(words::ratio).unwrap_or_default()) }
                            }
                        }
                    }
                }
            }
        }
    };
    in_box(caption, table)
}

fn series(unit: Unit, series: Option<&Series>) -> String {
    match series {
        Some(Series { samples, summary }) if samples.len() > 1 => words::with_spread(unit, summary),
        Some(Series { summary, .. }) => words::shown(unit, summary.median),
        None => String::new(),
    }
}

pub(super) fn steps(caption: &str, steps: &[StepTime]) -> Markup {
    let millis = |micros: u64| format!("{:.2} ms", micros as f64 / 1e3);
    let table = html! {
        table {
            caption { (caption) }
            thead { tr { @for head in ["Call and step", "count", "p50", "p99", "longest"] { th scope="col" { (head) } } } }
            tbody {
                @for step in steps {
                    tr {
                        th scope="row" { (step.command) " " (step.step) }
                        td { (step.count) }
                        @for micros in [step.p50_us, step.p99_us, step.max_us] { td { (millis(micros)) } }
                    }
                }
            }
        }
    };
    in_box(caption, table)
}
