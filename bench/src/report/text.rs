//! The report for people: one table per path, then what to think of it.

use std::{collections::BTreeSet, fmt::Write};

use azure_cni_agent::api::StepTime;
use comfy_table::{Cell, CellAlignment, Table, TableComponent, presets::UTF8_HORIZONTAL_ONLY};

use super::Report;
use crate::{
    calls::{ArmSamples, CallFigure, Calls},
    figure::Figure,
    leases::LeaseCost,
    plan::{Arm, Path},
    programs::{Memory, ProgramCost, Runs},
    statistics::{Comparison, Summary, Verdict, quantile},
    wiring::Wiring,
};

/// A spread of the bare pair above this makes the run a noisy one.
const NOISY: f64 = 0.1;

/// Said below the programs' table.
const SINGLE_RUNS: &str = "\
A single run's packet is new each time, because the program translates it or because it opens a flow. What a run costs
around the program is taken off; that its caches are colder than a repeated run's is not.";

/// The interfaces that were checked.
pub(crate) fn wirings(wirings: &[Wiring]) -> String {
    let Some(one) = wirings.first() else { return String::new() };
    let state = |on: bool| if on { "on" } else { "off" };
    let stations: BTreeSet<&str> = wirings.iter().map(|wiring| wiring.station.as_str()).collect();
    format!(
        "Interfaces   alike on all arms: MTU {}, largest segment {} bytes, checksum offload {}, TSO {}, GSO {}, GRO {}\n             \
         checked: {}; bridged packets pass iptables, as kube-proxy needs it\n",
        one.mtu,
        one.gso_max_size,
        state(one.tx_checksum),
        state(one.tso),
        state(one.gso),
        state(one.gro),
        Vec::from_iter(stations).join(", ")
    )
}

impl Report {
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let mut paths: Vec<Path> = self.plan.loads.iter().map(|(path, _)| *path).collect();
        paths.dedup();
        for path in paths {
            writeln!(text, "\n{}\n{}", capitalised(path.title()), self.path_table(path)).expect("a String takes all");
        }
        if !self.programs.costs.is_empty() {
            writeln!(text, "\nThe programs alone (BPF_PROG_TEST_RUN)\n{}\n{SINGLE_RUNS}", self.program_table())
                .expect("a String takes all");
        }
        if let Some(memory) = &self.programs.memory {
            writeln!(text, "\nMemory per flow (by the kernel's account of the tables)\n{}", memory_table(memory))
                .expect("a String takes all");
        }
        if !self.leases.is_empty() {
            writeln!(text, "\nLeases (one thread, half of the pool held)\n{}", lease_table(&self.leases))
                .expect("a String takes all");
        }
        if let Some(calls) = &self.calls {
            let resident = calls.agent_resident_bytes.map_or(String::new(), |bytes| {
                format!(
                    "The agent's resident memory with all of them attached: {:.1} MiB.\n",
                    bytes as f64 / f64::from(1 << 20)
                )
            });
            writeln!(
                text,
                "\nCNI calls for {} pods, the plugin's whole run\n{}\n{resident}{}{}",
                calls.pods,
                call_table(calls),
                times_line("STATUS meanwhile", &calls.status),
                times_line("A program that does nothing, in the plugin's place", &calls.nothing)
            )
            .expect("a String takes all");
            if !calls.steps.is_empty() {
                writeln!(text, "\nThe same by the agent's account, step by step\n{}", step_table(&calls.steps))
                    .expect("a String takes all");
            }
        }
        text + &self.remarks()
    }

    fn path_table(&self, path: Path) -> Table {
        let arms = path.arms().iter().copied().filter(|arm| self.plan.has(*arm));
        let arms: Vec<Arm> = arms.collect();
        let peers: Vec<Arm> = [Arm::Bare, Arm::Bridge].into_iter().filter(|peer| self.plan.has(*peer)).collect();
        let mut head = vec!["Figure".to_owned()];
        head.extend(arms.iter().map(|arm| arm.title().to_owned()));
        head.extend(peers.iter().map(|peer| format!("to {}", peer.title())));
        let mut table = table(head);
        // The bare pair runs the loads of every path, also those that its own path was not asked for.
        let planned = |figure: &Figure| self.plan.loads.contains(&(path, figure.load()));
        let figures = self.results.samples.keys().filter(|(of, _)| *of == path).map(|(_, figure)| *figure);
        for figure in figures.filter(planned) {
            let mut row = vec![figure.title().to_owned()];
            row.extend(arms.iter().map(|arm| sample_cell(figure, self.samples(path, figure, *arm))));
            row.extend(peers.iter().map(|peer| ratio_cell(self.comparison(path, figure, *peer))));
            add_row(&mut table, row);
            if figure.is_cost() && self.plan.has(Arm::Bare) {
                let mut row = vec!["    beyond a bare veth pair".to_owned()];
                row.extend(arms.iter().map(|arm| sample_cell(figure, self.added(path, figure, *arm).as_deref())));
                row.extend(peers.iter().map(|peer| match peer {
                    Arm::Bridge => ratio_cell(self.added_comparison(path, figure)),
                    _ => String::new(),
                }));
                add_row(&mut table, row);
            }
        }
        table
    }

    fn program_table(&self) -> Table {
        let head =
            ["Program, packet of an established flow unless it says otherwise", "runs", "ns, median", "ns, least"];
        let mut table = table(head.map(str::to_owned));
        for ProgramCost { program, case, runs, cost: Summary { median, low, high }, least } in &self.programs.costs {
            let runs = match runs {
                Runs::Repeated => "repeated",
                Runs::Single => "single",
            };
            let median = format!("{median:.0} ({low:.0}-{high:.0})");
            add_row(&mut table, [format!("{program} {case}"), runs.into(), median, format!("{least:.0}")]);
        }
        table
    }

    fn remarks(&self) -> String {
        let mut text = format!(
            "\n{} rounds, {:.1} s for each load, {} in all. Values: median, and half the spread. Ratios: median over the\n\
             rounds of azure-cni-ebpf to the other in the same round, and their spread (the interval that holds the\n\
             median with at least 90 % certainty).\n",
            self.plan.rounds,
            self.plan.duration.as_secs_f64(),
            crate::seconds(self.took)
        );
        if let Some(noise) = self.noise() {
            let word = if noise > NOISY { "NOISY RUN: t" } else { "T" };
            writeln!(text, "{word}he bare pair's own figures spread by up to {:.1} %.", noise * 100.0)
                .expect("a String takes all");
        }
        if let Some(disturbed) = self.disturbed() {
            let worst = self.results.disturbed.iter().copied().fold(0.0, f64::max);
            writeln!(
                text,
                "Other work held a load generator's core for {:.1} % of the time (median of all runs; at worst {:.0} %).",
                disturbed.median * 100.0,
                worst * 100.0
            )
            .expect("a String takes all");
        }
        text
    }
}

fn memory_table(memory: &Memory) -> Table {
    let mut table = table(["Table or flow", "bytes", "places", "MiB"].map(str::to_owned));
    for place in &memory.tables {
        let mib = format!("{:.1}", place.bytes as f64 / f64::from(1 << 20));
        let row =
            [format!("{}, a place", place.name), format!("{:.0}", place.bytes_per_place), place.places.to_string()];
        add_row(&mut table, row.into_iter().chain([mib]));
    }
    for flow in &memory.flows {
        add_row(&mut table, [format!("a flow, {}", flow.flow), format!("{:.0}", flow.bytes)]);
    }
    table
}

fn lease_table(costs: &[LeaseCost]) -> Table {
    let mut table = table(["A lease and its release, with a pool of", "ns, median"].map(str::to_owned));
    for LeaseCost { addresses, summary: Summary { median, low, high }, .. } in costs {
        add_row(&mut table, [format!("{addresses} addresses"), format!("{median:.0} ({low:.0}-{high:.0})")]);
    }
    table
}

fn call_table(calls: &Calls) -> Table {
    let arms = calls.figures.first().map_or(&[][..], |figure| &figure.arms);
    let mut head = vec!["Call".to_owned()];
    head.extend(arms.iter().map(|arm| arm.arm.title().to_owned()));
    head.push(format!("to {}", Arm::Bridge.title()));
    let mut table = table(head);
    for CallFigure { verb, what, arms, ratio } in &calls.figures {
        let mut row = vec![format!("{verb} {}", what.title())];
        row.extend(arms.iter().map(|ArmSamples { summary: Summary { median, low, high }, .. }| {
            format!("{:.2} ms ({:.2}-{:.2})", median / 1e6, low / 1e6, high / 1e6)
        }));
        row.push(ratio_cell(ratio.clone()));
        add_row(&mut table, row);
    }
    table
}

fn times_line(what: &str, samples: &[f64]) -> String {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(longest) = sorted.last() else { return String::new() };
    let millis = |nanos: f64| format!("{:.2} ms", nanos / 1e6);
    let [median, tail] = [0.5, 0.99].map(|share| millis(quantile(&sorted, share)));
    format!("{what}, {} times: p50 {median}, p99 {tail}, longest {}.\n", sorted.len(), millis(*longest))
}

fn step_table(steps: &[StepTime]) -> Table {
    let mut table = table(["Call and step", "count", "p50", "p99", "longest"].map(str::to_owned));
    let millis = |micros: u64| format!("{:.2} ms", micros as f64 / 1e3);
    for StepTime { command, step, count, p50_us, p99_us, max_us } in steps {
        let row = [format!("{command} {step}"), count.to_string(), millis(*p50_us), millis(*p99_us), millis(*max_us)];
        add_row(&mut table, row);
    }
    table
}

fn table(head: impl IntoIterator<Item = String>) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_HORIZONTAL_ONLY).set_header(cells(head));
    for between_rows in [TableComponent::HorizontalLines, TableComponent::MiddleIntersections] {
        table.remove_style(between_rows);
    }
    table
}

fn add_row(table: &mut Table, row: impl IntoIterator<Item = String>) {
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

fn sample_cell(figure: Figure, samples: Option<&[f64]>) -> String {
    let Some(samples) = samples else { return String::new() };
    let summary = Summary::of(samples);
    if figure.is_compared() {
        format!("{} ±{:.0} %", figure.show(summary.median), summary.relative_spread() * 100.0)
    } else {
        figure.show(summary.median)
    }
}

fn ratio_cell(comparison: Option<Comparison>) -> String {
    let Some(Comparison { summary: Summary { median, low, high }, verdict, .. }) = comparison else {
        return String::new();
    };
    let word = match verdict {
        Verdict::Better => "better",
        Verdict::Worse => "worse",
        Verdict::NoDifference => "no difference",
        Verdict::TooFewRounds => "too few rounds",
    };
    format!("{median:.2} ({low:.2}-{high:.2}) {word}")
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}
