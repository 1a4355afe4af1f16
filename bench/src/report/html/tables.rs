//! Every figure in tables, as the text report has them.

use std::collections::BTreeSet;

use maud::{Markup, html};

use super::words;
use crate::{
    record::{Record, Series},
    report::grid::{Grid, Row},
    unit::Unit,
    variant::Variant,
};

/// What may be wider than the page scrolls in a box of its own.
pub(super) fn in_box(name: &str, table: Markup) -> Markup {
    html! { div class="box" tabindex="0" role="region" aria-label=(name) { (table) } }
}

pub(super) fn records(caption: &str, records: &[&Record]) -> Markup {
    if let Some(of_places) = Grid::of(records) {
        return grid(caption, &of_places);
    }
    let variants: BTreeSet<Variant> = records.iter().flat_map(|record| record.variants.keys().copied()).collect();
    let peers: BTreeSet<Variant> = records.iter().flat_map(|record| record.ratios.keys().copied()).collect();
    let table = html! {
        table {
            caption { (caption) }
            thead {
                tr {
                    th scope="col" { "Figure" }
                    @for variant in &variants { th scope="col" { (variant.title()) } }
                    @for peer in &peers { th scope="col" { "to " (peer.title()) } }
                }
            }
            tbody {
                @for record in records {
                    tr {
                        th scope="row" class=[record.title.starts_with(' ').then_some("part")] {
                            (record.full_title().trim_start())
                        }
                        @for variant in &variants { td { (series(record.unit, record.variants.get(variant))) } }
                        @for peer in &peers { td { (record.ratios.get(peer).map(words::ratio).unwrap_or_default()) } }
                    }
                    @if !record.beyond_bare.is_empty() {
                        tr {
                            th scope="row" class="part" { "beyond a bare veth pair" }
                            @for variant in &variants { td { (series(record.unit, record.beyond_bare.get(variant))) } }
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

fn grid(caption: &str, grid: &Grid) -> Markup {
    let table = html! {
        table {
            caption { (caption) }
            thead { tr { th scope="col" { (grid.variant.title()) } @for place in &grid.places { th scope="col" { (place) } } } }
            tbody {
                @for Row { title, cells } in &grid.rows {
                    tr {
                        th scope="row" { (title) }
                        @for cell in cells {
                            td { @if let Some(record) = cell { (series(record.unit, record.variants.get(&grid.variant))) } }
                        }
                    }
                }
            }
        }
    };
    in_box(caption, table)
}
