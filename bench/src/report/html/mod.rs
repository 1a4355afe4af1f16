//! The report as one page of HTML that needs nothing else: for people who look closer.
//!
//! The page shows whatever records there are, results first: each in a chart where one helps, and every one in a
//! table. Machine and method come last. Nothing
//! depends on colour alone, and nothing is fetched from elsewhere.

// The page, from its beginning to its end.
mod method;
mod promises;
mod sections;
mod tables;

// What charts are made of, the ready ones first.
mod chart;
mod lines;
mod look;
mod rows;
mod words;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{
    Report,
    text::{capitalised, heading, remark},
};

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
            ("measured", "What was measured, and how", Some(method::section(self))),
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
                    header {
                        h1 { "How fast pods are: azure-cni-ebpf, and what it is compared with" }
                        (method::banner(self))
                        nav aria-label="Contents" {
                            ul { @for (id, title, _) in &sections { li { a href={ "#" (id) } { (title) } } } }
                        }
                    }
                    main {
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
