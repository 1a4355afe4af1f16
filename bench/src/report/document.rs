//! Makes the generated sections of docs/performance.md from docs/performance.json, and holds them against each other.

use std::{fmt::Write, fs, path::Path};

use super::Report;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/performance.md");
const REPORT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/performance.json");

/// The document with every generated section made anew.
fn with_sections(document: &str, report: &Report) -> String {
    const BEGIN: &str = "<!-- generated from performance.json: ";
    const END: &str = "<!-- end -->";
    let mut parts = document.split(BEGIN);
    let mut made = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once(" -->\n").expect("a marker ends its line");
        let (_, after) = rest.split_once(END).expect("every section has an end");
        let section = match name {
            "promises" => report.promises(),
            "figures" => report.figures(),
            other => panic!("there is no section {other}"),
        };
        write!(made, "{BEGIN}{name} -->\n\n{section}\n{END}{after}").expect("a String takes all");
    }
    made
}

#[test]
fn performance_document_is_made_of_its_report() {
    let report = Report::read(Path::new(REPORT)).expect("the document's report");
    let found = fs::read_to_string(DOCUMENT).expect("the document");
    let wanted = with_sections(&found, &report);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(DOCUMENT, &wanted).expect("the document is written");
    }
    let found = fs::read_to_string(DOCUMENT).expect("the document");
    for section in ["promises", "figures"] {
        assert_eq!(found.matches(&format!("performance.json: {section} -->")).count(), 1, "one section of {section}");
    }
    // Not assert_eq: both are longer than anyone reads.
    assert!(
        found == wanted,
        "docs/performance.md is out of date: run `UPDATE_DOCS=1 cargo test -p azure-cni-bench performance_document`"
    );
}
