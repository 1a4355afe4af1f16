//! The report for the terminal: one table for each topic, then what to think of it.

use std::{collections::BTreeSet, fmt::Write};

use comfy_table::{Cell, CellAlignment, Table, TableComponent, presets::UTF8_HORIZONTAL_ONLY};

use super::{
    Disturbed, Report,
    grid::{Grid, Row},
    promises::Verdict,
};
use crate::{
    record::{Record, Series},
    statistics::{Comparison, Summary},
    subject::PathKind,
    testbed::Wiring,
    unit::Unit,
    variant::Variant,
};

/// The interfaces that were checked: what they are like, and which they are.
pub(super) fn interfaces(wirings: &[Wiring]) -> Option<[String; 2]> {
    let one = wirings.first()?;
    let state = |on: bool| if on { "on" } else { "off" };
    let stations: BTreeSet<&str> = wirings.iter().map(|wiring| wiring.station.as_str()).collect();
    Some([
        format!(
            "the same for all variants: MTU {}, largest segment {} bytes, checksum offload {}, TSO {}, GSO {}, GRO {}",
            one.mtu,
            one.gso_max_size,
            state(one.tx_checksum),
            state(one.tso),
            state(one.gso),
            state(one.gro),
        ),
        format!(
            "checked: {}; bridged packets pass iptables, as kube-proxy needs it",
            Vec::from_iter(stations).join(", ")
        ),
    ])
}

/// What a topic's table is called.
pub(crate) fn heading(topic: &str) -> &str {
    if let Some(path) = PathKind::by_name(topic) {
        return path.title();
    }
    match topic {
        "scale-pods" => "by how many pods the VM has: two of them, on the same VM",
        "scale-remote-addresses" => "by how many remote addresses a pod sends to in turns; TCP beside them to one",
        "scale-flows" => "by how many flows packets are of, in turns; TCP beside them to one address",
        "scale-ports-taken" => {
            "by how many ports to one destination are taken: opening a flow through source NAT, and TCP beside it"
        }
        "restart" => "datagrams through source NAT, 10,000 each second, while something happens to the agent",
        "programs" => "the eBPF programs alone, for one packet (BPF_PROG_TEST_RUN)",
        "memory" => "memory for each flow, by the kernel's account of the tables",
        "leases" => "leases, one thread, half of the pool held",
        "calls" => "CNI calls, the plugin's whole run",
        "steps-one" => "steps of CNI calls by the agent's own account, one call at a time",
        "steps-all" => "steps of CNI calls by the agent's own account, all calls at once",
        other => other,
    }
}

/// Said below a topic's table.
pub(super) fn remark(topic: &str) -> &'static str {
    match topic {
        "programs" => {
            "A single run's packet is new each time, because the program translates it or because it opens a flow. What a run\n\
             costs around the program is taken off; that its caches are colder than a repeated run's is not. A use of a table is a\n\
             look-up, an insertion or a removal. Instructions are the programs' own, as they were compiled.\n"
        }
        "scale-ports-taken" => "A flow that was refused counts as 50 ms.\n",
        "steps-one" | "steps-all" => "How long the slowest hundredth took is in --json and in --html.\n",
        _ => "",
    }
}

impl Report {
    pub(crate) fn text(&self) -> String {
        let interfaces = interfaces(&self.interfaces);
        let mut text =
            interfaces.map(|lines| format!("Interfaces   {}\n", lines.join("\n             "))).unwrap_or_default();
        for (topic, records) in self.topics() {
            let line = format!(
                "\n{}\n{}\n{}",
                capitalised(heading(topic)),
                record_table(&worth_a_row(&records)),
                remark(topic)
            );
            text += &line;
        }
        text + &self.kept_promises() + &self.remarks()
    }

    /// What this run says of each promise that it measured.
    fn kept_promises(&self) -> String {
        let outcomes = self.outcomes();
        let (measured, rest): (Vec<_>, Vec<_>) =
            outcomes.iter().partition(|outcome| outcome.verdict() != Verdict::NotMeasured);
        if measured.is_empty() {
            return String::new();
        }
        let mut table = table(["Promise", "promised", "measured", "on this machine"].map(str::to_owned));
        for outcome in measured {
            let text = format!("{} {}", outcome.name(), outcome.promise.text);
            let verdict = outcome.verdict().title().to_owned();
            add_row(&mut table, [text, outcome.promised(), outcome.measured(), verdict]);
        }
        let names: Vec<_> = rest.iter().map(|outcome| outcome.name()).collect();
        let rest = if names.is_empty() { String::new() } else { format!("Not measured: {}.\n", names.join(", ")) };
        format!("\nPromises of a default installation\n{table}\n{rest}")
    }

    fn remarks(&self) -> String {
        let text = format!(
            "\n{} rounds, {:.1} s for each load, {} in all. Values: median, and half the spread. Ratios: median over the\n\
             rounds of azure-cni-ebpf to the other in the same round, and their spread (the interval that holds the\n\
             median with at least 90 % certainty).\n",
            self.method.rounds,
            self.method.seconds_per_load,
            crate::unit::elapsed(std::time::Duration::from_secs_f64(self.method.seconds_taken))
        );
        text + &self.disturbances()
    }

    /// What other work did to the figures.
    pub(super) fn disturbances(&self) -> String {
        let mut text = String::new();
        if let Some(noise) = self.noise() {
            let word = if self.is_noisy() { "NOISY RUN: t" } else { "T" };
            writeln!(text, "{word}he bare pair's own figures spread by up to {:.1} %.", noise * 100.0)
                .expect("a String takes all");
        }
        if let Some(Disturbed { summary, worst }) = self.disturbed {
            writeln!(
                text,
                "Other work held a load generator's core for {:.1} % of the time (median of all runs; at worst {:.0} %).",
                summary.median * 100.0,
                worst * 100.0
            )
            .expect("a String takes all");
        }
        text
    }
}

/// Those that have a row in a report that is read from top to bottom: steps of calls are many, their medians are enough.
pub(super) fn worth_a_row<'records>(records: &[&'records Record]) -> Vec<&'records Record> {
    records.iter().copied().filter(|record| !(record.is_step() && record.is_tail())).collect()
}

fn record_table(records: &[&Record]) -> Table {
    if let Some(grid) = Grid::of(records) {
        return grid_table(grid);
    }
    let variants: BTreeSet<Variant> = records.iter().flat_map(|record| record.variants.keys().copied()).collect();
    let peers: BTreeSet<Variant> = records.iter().flat_map(|record| record.ratios.keys().copied()).collect();
    let mut head = vec!["Figure".to_owned()];
    head.extend(variants.iter().map(|variant| variant.title().to_owned()));
    head.extend(peers.iter().map(|peer| format!("to {}", peer.title())));
    let mut table = table(head);
    for record in records {
        let mut row = vec![record.full_title()];
        row.extend(variants.iter().map(|variant| series_cell(record.unit, record.variants.get(variant))));
        row.extend(peers.iter().map(|peer| ratio_cell(record.ratios.get(peer))));
        add_row(&mut table, row);
        if !record.beyond_bare.is_empty() {
            let mut row = vec!["    beyond a bare veth pair".to_owned()];
            row.extend(variants.iter().map(|variant| series_cell(record.unit, record.beyond_bare.get(variant))));
            row.extend(peers.iter().map(|peer| ratio_cell(record.beyond_bare_ratios.get(peer))));
            add_row(&mut table, row);
        }
    }
    table
}

fn grid_table(grid: Grid) -> Table {
    let mut table = table([grid.variant.title().to_owned()].into_iter().chain(grid.places));
    for Row { title, cells } in grid.rows {
        let cells = cells
            .into_iter()
            .map(|record| record.map(|record| series_cell(record.unit, record.variants.get(&grid.variant))));
        add_row(&mut table, [title.to_owned()].into_iter().chain(cells.map(Option::unwrap_or_default)));
    }
    table
}

pub(super) fn table(head: impl IntoIterator<Item = String>) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_HORIZONTAL_ONLY).set_header(cells(head));
    for between_rows in [TableComponent::HorizontalLines, TableComponent::MiddleIntersections] {
        table.remove_style(between_rows);
    }
    table
}

pub(super) fn add_row(table: &mut Table, row: impl IntoIterator<Item = String>) {
    table.add_row(cells(row));
}

/// Words to the left, numbers to the right.
fn cells(texts: impl IntoIterator<Item = String>) -> Vec<Cell> {
    let aligned = |(index, text): (usize, String)| {
        let side = if index == 0 { CellAlignment::Left } else { CellAlignment::Right };
        Cell::new(text).set_alignment(side)
    };
    texts.into_iter().enumerate().map(aligned).collect()
}

fn series_cell(unit: Unit, series: Option<&Series>) -> String {
    let Some(Series { samples, summary }) = series else { return String::new() };
    let value = unit.show(summary.median);
    if unit.has_ratios() && samples.len() > 1 {
        format!("{value} ±{:.0} %", summary.relative_spread() * 100.0)
    } else {
        value
    }
}

pub(super) fn ratio_cell(comparison: Option<&Comparison>) -> String {
    let Some(Comparison { summary: Summary { median, low, high }, verdict }) = comparison else {
        return String::new();
    };
    format!("{median:.2} ({low:.2}-{high:.2}) {}", verdict.word())
}

pub(super) fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}
