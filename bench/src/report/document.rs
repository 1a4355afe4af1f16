//! Makes the generated sections of docs/performance.md from docs/performance-summary.json, and holds them against each other.

use std::{fmt::Write, fs};

use super::summary::{Figure, Summary};
use crate::{subject::PathKind, variant::Variant};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/performance.md");
const SUMMARY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/performance-summary.json");
/// What a reader, or a reviewer of a change, looks through.
const MAX_LINES: usize = 200;

const SECTIONS: [&str; 2] = ["promises", "figures"];
const BEGIN: &str = "<!-- generated from performance-summary.json: ";
const END: &str = "<!-- end -->";

/// The document with every generated section made again.
fn with_sections(document: &str, summary: &Summary) -> String {
    let mut parts = document.split(BEGIN);
    let mut made = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once(" -->\n").expect("a marker ends its line");
        let (_, after) = rest.split_once(END).expect("every section has an end");
        let section = match name {
            "promises" => promises(summary),
            "figures" => figures(summary),
            other => panic!("there is no section {other}"),
        };
        write!(made, "{BEGIN}{name} -->\n\n{section}\n{END}{after}").expect("a String takes all");
    }
    made
}

fn promises(summary: &Summary) -> String {
    let mut text =
        "| | Promise | Bound | Aim | Measured | Redirect only | |\n|---|---|---|---|---|---|---|\n".to_owned();
    for outcome in summary.outcomes() {
        let cells = [
            outcome.name(),
            outcome.promise.text.to_owned(),
            outcome.promised(),
            outcome.aim(),
            outcome.measured(),
            outcome.lower_bound(),
            outcome.judged(),
        ];
        writeln!(text, "| {} |", cells.join(" | ")).expect("a String takes all");
    }
    text + "\n" + &measured_on(summary)
}

fn measured_on(summary: &Summary) -> String {
    let facts = summary.machine.facts();
    let fact = |name: &str| facts.iter().find(|(other, _)| *other == name).map_or("unknown", |(_, fact)| fact.as_str());
    let noise =
        summary.noise.map(|noise| format!("; the bare pair's own figures spread by up to {:.0} %", noise * 100.0));
    format!(
        "Measured on: {}; kernel {}; {} rounds, {:.1} s for each load{}.\n",
        fact("Processor"),
        fact("Kernel").split(' ').next().unwrap_or_default(),
        summary.method.rounds,
        summary.method.seconds_per_load,
        noise.unwrap_or_default()
    )
}

/// Ratios to what one would have instead.
fn figures(summary: &Summary) -> String {
    const REFERENCES: [Variant; 2] = [Variant::Bridge, Variant::Ptp];
    let titles = REFERENCES.map(|variant| format!("to {}", variant.title())).join(" | ");
    let mut text = format!("| | azure-cni-ebpf | {titles} |\n|---|--:|--:|--:|\n");
    for figure in &summary.figures {
        let ratio = |variant| match figure.ratios.get(&variant) {
            Some(ratio) => format!("{:.2} ({:.2}–{:.2})", ratio.median, ratio.low, ratio.high),
            None => String::new(),
        };
        let (value, ratios) = (figure.unit.show(figure.value.median), REFERENCES.map(ratio).join(" | "));
        writeln!(text, "| {} | {value} | {ratios} |", title(figure)).expect("a String takes all");
    }
    text
}

fn title(figure: &Figure) -> String {
    let (topic, name) = figure.id.split_once('/').unwrap_or(("", &figure.id));
    let what = match name {
        "packet-rate" => "small packets a second",
        "connection-rate" => "connections a second",
        "add-p50" => "CNI ADD, one at a time",
        "add-all" => "CNI ADD, all at once",
        other => other,
    };
    match (PathKind::by_name(topic), figure.at) {
        (Some(path), _) => format!("{}: {what}", path.title()),
        (None, Some(at)) => format!("{what}, {} {}", at.value, at.axis.title()),
        (None, None) => what.to_owned(),
    }
}

#[test]
fn performance_document_is_made_of_its_summary() {
    let summary = fs::read_to_string(SUMMARY).expect("the document's summary");
    let summary: Summary = serde_json::from_str(&summary).expect("a summary");
    let found = fs::read_to_string(DOCUMENT).expect("the document");
    let wanted = with_sections(&found, &summary);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(DOCUMENT, &wanted).expect("the document is written");
    }
    let found = fs::read_to_string(DOCUMENT).expect("the document");
    for section in SECTIONS {
        assert_eq!(found.matches(&format!("{BEGIN}{section} -->")).count(), 1, "one section of {section}");
    }
    // Not assert_eq: both are longer than a terminal shows.
    assert!(
        found == wanted,
        "docs/performance.md is out of date: run `UPDATE_DOCS=1 cargo test -p azure-cni-bench performance_document`"
    );
    for file in [DOCUMENT, SUMMARY] {
        let lines = fs::read_to_string(file).expect("a file").lines().count();
        assert!(lines < MAX_LINES, "{file} has {lines} lines");
    }
}
