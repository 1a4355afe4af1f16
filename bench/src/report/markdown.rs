//! All figures for the document: a table for each topic, headed by the machine and the method.
//!
//! Cells have a variant's median; how far samples lie apart is said where it decides, of the ratios.

use std::{collections::BTreeSet, fmt::Write};

use super::{
    Report,
    grid::{Grid, Row},
    text::{capitalised, heading, remark, worth_a_row},
};
use crate::{
    record::{Record, Series},
    statistics::{Comparison, Summary},
    subject::Mode,
    variant::Variant,
};

impl Report {
    pub(super) fn figures(&self) -> String {
        let mut text = format!("```text\n{}```\n\n", self.machine);
        let mode = match self.method.mode {
            Mode::Quick => "A quick run",
            Mode::Default => "A default run",
            Mode::Full => "A full run",
        };
        writeln!(
            text,
            "{mode}: {} rounds, {:.1} s for each load. Values are medians. Ratios are medians over the rounds of azure-cni-ebpf to the\n\
             other in the same round, and in brackets their spread: the interval that holds the median with at least 90 % certainty.\n{}",
            self.method.rounds,
            self.method.seconds_per_load,
            self.disturbances().trim_end()
        )
        .expect("a String takes all");
        for (topic, records) in self.topics() {
            let (title, table) = (capitalised(heading(topic)), record_table(&worth_a_row(&records)));
            write!(text, "\n### {title}\n\n{table}").expect("a String takes all");
            if !remark(topic).is_empty() {
                write!(text, "\n{}", remark(topic)).expect("a String takes all");
            }
        }
        text
    }
}

/// Only columns that have something.
fn record_table(records: &[&Record]) -> String {
    if let Some(grid) = Grid::of(records) {
        return grid_table(&grid);
    }
    let variants: BTreeSet<Variant> = records.iter().flat_map(|record| record.variants.keys().copied()).collect();
    let peers: BTreeSet<Variant> = records.iter().flat_map(|record| record.ratios.keys().copied()).collect();
    let to = peers.iter().map(|peer| format!("to {}", peer.title()));
    let titles: Vec<_> = variants.iter().map(|variant| variant.title().to_owned()).chain(to).collect();
    let mut table = head(&[&["Figure".to_owned()], &titles[..]].concat());
    for record in records {
        let cells = |of: &dyn Fn(Variant) -> Option<Summary>, to: &dyn Fn(Variant) -> Option<Summary>| {
            let values = variants.iter().map(|variant| of(*variant).map(|summary| record.unit.show(summary.median)));
            let ratios = peers.iter().map(|peer| to(*peer).map(ratio));
            values.chain(ratios).map(Option::unwrap_or_default).collect::<Vec<_>>()
        };
        let of = |series: &Series| series.summary;
        let to = |comparison: &Comparison| comparison.summary;
        let whole = cells(&|variant| record.variants.get(&variant).map(of), &|peer| record.ratios.get(&peer).map(to));
        table += &row(&[&[title(record)], &whole[..]].concat());
        if !record.beyond_bare.is_empty() {
            let beyond = cells(&|variant| record.beyond_bare.get(&variant).map(of), &|peer| {
                record.beyond_bare_ratios.get(&peer).map(to)
            });
            table += &row(&[&["… beyond a bare veth pair".to_owned()], &beyond[..]].concat());
        }
    }
    table
}

fn grid_table(grid: &Grid) -> String {
    let mut table = head(&[&[grid.variant.title().to_owned()], &grid.places[..]].concat());
    for Row { title, cells } in &grid.rows {
        let shown = |record: &&Record| record.unit.show(record.variants[&grid.variant].summary.median);
        let cells: Vec<String> = cells.iter().map(|record| record.as_ref().map(shown).unwrap_or_default()).collect();
        table += &row(&[&[(*title).to_owned()], &cells[..]].concat());
    }
    table
}

/// What the terminal indents is of the row above.
fn title(record: &Record) -> String {
    let title = record.full_title();
    title.strip_prefix("  ").map(|rest| format!("… {rest}")).unwrap_or(title)
}

fn ratio(Summary { median, low, high }: Summary) -> String {
    format!("{median:.2} ({low:.2}–{high:.2})")
}

/// Words to the left, numbers to the right.
fn head(titles: &[impl AsRef<str>]) -> String {
    row(titles) + "|---" + &"|--:".repeat(titles.len() - 1) + "|\n"
}

fn row(cells: &[impl AsRef<str>]) -> String {
    let cells: Vec<_> = cells.iter().map(|cell| cell.as_ref().replace('|', "\\|")).collect();
    format!("| {} |\n", cells.join(" | "))
}
