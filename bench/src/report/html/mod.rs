//! The report as one page of HTML that needs nothing else: for people who look closer.
//!
//! The page shows whatever records there are, each in a drawing where one helps, and every one in a table at the end. Nothing
//! depends on colour alone, and nothing is fetched from elsewhere.

// The page, from its head to its end.
mod head;
mod promises;
mod sections;
mod tables;

// What drawings are made of, the ready ones first.
mod bars;
mod distribution;
mod growth;
mod ratios;

mod curves;
mod labels;
mod look;
mod rows;
mod scale;
mod words;

use std::collections::BTreeSet;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{
    Report,
    text::{capitalised, heading, remark},
};
use crate::variant::Variant;

const STYLE: &str = include_str!("style.css");

impl Report {
    /// The whole page.
    pub(crate) fn html(&self) -> String {
        let sections = [
            ("promises", "Promises", promises::section(self)),
            ("glance", "At a glance", sections::glance(self)),
            ("rates", "Rates and costs on each path", sections::rates(self)),
            ("latencies", "How long round trips take", sections::latencies(self)),
            ("growth", "As the VM fills up", sections::growth(self)),
            ("agent", "Restart, programs, memory, leases", sections::rest(self)),
            ("figures", "Every figure", figures(self)),
        ];
        let sections: Vec<_> = sections.into_iter().filter_map(|(id, title, body)| Some((id, title, body?))).collect();
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { "How fast pods are: azure-cni-ebpf" }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    (look::patterns())
                    header {
                        h1 { "How fast pods are: azure-cni-ebpf, and what it is compared with" }
                        (head::banner(self))
                        nav aria-label="Contents" {
                            ul { @for (id, title, _) in &sections { li { a href={ "#" (id) } { (title) } } } }
                        }
                    }
                    main {
                        section aria-labelledby="measured" {
                            h2 id="measured" { "What was measured, and how" }
                            h3 { "Ways to attach pods" }
                            (look::legend(&variants(self)))
                            h3 { "Method" }
                            (head::method(self))
                            h3 { "Machine" }
                            (head::machine(self))
                        }
                        @for (id, title, body) in &sections {
                            section aria-labelledby=(id) { h2 id=(id) { (title) } (body) }
                        }
                        @if self.records.is_empty() { p { "Nothing was measured." } }
                    }
                }
            }
        };
        page.into_string()
    }
}

fn variants(report: &Report) -> Vec<Variant> {
    let of_records = report.records.iter().flat_map(|record| record.variants.keys());
    let variants: BTreeSet<Variant> =
        of_records.chain(report.distributions.iter().flat_map(|one| one.variants.keys())).copied().collect();
    variants.into_iter().collect()
}

fn figures(report: &Report) -> Option<Markup> {
    let topics = report.topics();
    (!topics.is_empty()).then(|| {
        html! {
            p { "Median, and its spread in brackets; then ratios of azure-cni-ebpf to each other, with their spread." }
            @for (topic, records) in &topics {
                details {
                    summary { (capitalised(heading(topic))) }
                    (tables::records(&capitalised(heading(topic)), records))
                    @if !remark(topic).is_empty() { p class="soft" { (remark(topic)) } }
                }
            }
        }
    })
}

#[cfg(test)]
mod tests;
