//! The page's sections: which records are drawn how. One that has nothing to show is left out.

use maud::{Markup, html};

use super::{
    lines,
    rows::{self, Group},
    tables, words,
};
use crate::{
    record::{Axis, Distribution, Record},
    report::{
        Report,
        text::{capitalised, heading, remark},
    },
    subject::PathKind,
    unit::{Better, Unit},
};

/// On paths, what most people ask about first.
const MAIN: [&str; 3] = ["packet-rate", "connection-rate", "throughput-1"];
/// Of calls, at the most pods.
const MAIN_CALLS: [&str; 2] = ["add-p50", "add-all"];

fn drawing(title: &str, said: &str, drawn: Markup) -> Markup {
    html! { figure { figcaption { (title) small { (capitalised(said)) } } (drawn) } }
}

fn drawings(all: &[Markup]) -> Option<Markup> {
    (!all.is_empty()).then(|| html! { div class="drawings" { @for one in all { (one) } } })
}

/// A record of a path, and a title that stands alone.
type OfPath<'report> = (PathKind, &'report Record, String);

/// The records of paths, figure by figure.
fn by_figure(report: &Report) -> Vec<(&str, Vec<OfPath<'_>>)> {
    let mut figures: Vec<(&str, Vec<OfPath<'_>>)> = Vec::new();
    for (topic, records) in report.topics() {
        let Some(path) = PathKind::by_name(topic) else { continue };
        for record in &records {
            let one = (path, *record, words::own_title(record, &records));
            match figures.iter_mut().find(|(figure, _)| *figure == words::figure(record)) {
                Some((_, paths)) => paths.push(one),
                None => figures.push((words::figure(record), vec![one])),
            }
        }
    }
    figures
}

/// Ratios of the figures that matter most.
pub(super) fn glance(report: &Report) -> Option<Markup> {
    let mut all = Vec::new();
    for (figure, records) in by_figure(report) {
        if MAIN.contains(&figure) {
            let groups = records.iter().map(|(path, record, _)| Group::ratios(capitalised(path.title()), record));
            all.extend(compared(&records[0].2, records[0].1.better, groups.collect()));
        }
    }
    for figure in MAIN_CALLS {
        let calls = report.records.iter().filter(|record| record.topic() == "calls" && words::figure(record) == figure);
        if let Some(record) = calls.max_by_key(|record| record.at) {
            let place = record.at.map(|at| format!("With {} {} on the VM", at.value, at.axis.title()));
            let groups = vec![Group::ratios(place.unwrap_or_default(), record)];
            all.extend(compared(record.title.trim_start(), record.better, groups));
        }
    }
    let all = drawings(&all)?;
    Some(html! {
        p {
            "How many times as much azure-cni-ebpf makes or takes as each other way: the mark, with the spread in brackets. The \
            line is 1: as much as the other. Bridge and ptp are what one would have instead; the bare veth pair and \
            redirects alone show what is possible."
        }
        (all)
    })
}

fn compared(title: &str, better: Better, mut groups: Vec<Group>) -> Option<Markup> {
    groups.retain(|group| !group.is_empty());
    (!groups.is_empty()).then(|| drawing(title, words::better(better), rows::ratios(title, &groups)))
}

/// Rates and what they cost: everything of paths but latencies, which are distributed, and losses.
pub(super) fn rates(report: &Report) -> Option<Markup> {
    let mut rates = Vec::new();
    let mut costs = Vec::new();
    for (figure, records) in by_figure(report) {
        let (_, first, title) = &records[0];
        if !first.unit.has_ratios() || is_of_a_distribution(report, figure) {
            continue;
        }
        let groups: Vec<Group> =
            records.iter().map(|(path, record, _)| Group::values(capitalised(path.title()), record)).collect();
        let drawn = drawing(title, words::better(first.better), rows::bars(title, first.unit, &groups, &groups));
        if first.better == Better::Higher { rates.push(drawn) } else { costs.push(drawn) }
    }
    let (rates, costs) = (drawings(&rates), drawings(&costs));
    (rates.is_some() || costs.is_some()).then(|| {
        html! {
            @if let Some(rates) = rates { h3 { "Rates" } (rates) }
            @if let Some(costs) = costs { h3 { "What they cost" } (costs) }
        }
    })
}

fn is_of_a_distribution(report: &Report, figure: &str) -> bool {
    report.distributions.iter().any(|one| one.id.split_once('/').is_some_and(|(_, name)| figure.starts_with(name)))
}

pub(super) fn latencies(report: &Report) -> Option<Markup> {
    let curve = |one: &Distribution| {
        let path = one.id.split_once('/').and_then(|(topic, _)| PathKind::by_name(topic))?;
        Some(distributed(&format!("{}: {}", capitalised(path.title()), one.title), one))
    };
    let all = drawings(&report.distributions.iter().filter_map(curve).collect::<Vec<_>>())?;
    Some(html! {
        p { "A curve further to the left is better. The slowest thousandth is left out of the charts." }
        (all)
    })
}

fn distributed(title: &str, one: &Distribution) -> Markup {
    drawing(title, "Share of all that take no longer than the time below", lines::distribution(title, one))
}

/// What happens while pods, addresses, flows and taken ports become more.
pub(super) fn growth(report: &Report) -> Option<Markup> {
    let topics = report.topics();
    let sections = topics.iter().filter(|(topic, _)| topic.starts_with("scale-") || *topic == "calls");
    let mut parts: Vec<Markup> = Vec::new();
    for (topic, records) in sections {
        let spread = report.distributions.iter().filter(|one| one.id.starts_with(&format!("{topic}/")));
        let mut all: Vec<Markup> = spread.map(|one| distributed(&one.title, one)).collect();
        let (mut drawn, still) = along_axes(records);
        drawn.append(&mut all);
        if let Some(drawn) = topic_part(topic, drawings(&drawn), &still) {
            parts.push(drawn);
        }
    }
    (!parts.is_empty()).then(|| {
        html! {
            @for part in &parts { (part) }
        }
    })
}

fn topic_part(topic: &str, drawn: Option<Markup>, still: &[String]) -> Option<Markup> {
    (drawn.is_some() || !still.is_empty()).then(|| {
        html! {
            h3 { (capitalised(heading(topic))) }
            @if let Some(drawn) = drawn { (drawn) }
            @if !still.is_empty() { p { "Zero at every place: " (still.join("; ")) "." } }
            @if !remark(topic).is_empty() { p class="soft" { (remark(topic)) } }
        }
    })
}

/// A drawing for each figure that has places on an axis, and the titles of those that are zero at each of them.
fn along_axes(topic: &[&Record]) -> (Vec<Markup>, Vec<String>) {
    let mut figures: Vec<(&str, Axis, Vec<&Record>)> = Vec::new();
    for record in topic {
        let (Some(at), figure) = (record.at, words::figure(record)) else { continue };
        match figures.iter_mut().find(|(other, axis, _)| *other == figure && *axis == at.axis) {
            Some((_, _, records)) => records.push(record),
            None => figures.push((figure, at.axis, vec![record])),
        }
    }
    let (mut drawn, mut still) = (Vec::new(), Vec::new());
    for (_, axis, records) in figures {
        let title = words::own_title(records[0], topic);
        let mut highest = records.iter().flat_map(|record| record.variants.values()).map(|series| series.summary.high);
        if highest.all(|high| high == 0.0) {
            still.push(title);
        } else {
            let said = format!("By {}; {}", axis.title(), words::better(records[0].better));
            drawn.push(drawing(&title, &said, lines::growth(&title, records[0].unit, axis, &records)));
        }
    }
    (drawn, still)
}

/// All other topics but the many steps of calls: bars for records of one unit, a table for others.
pub(super) fn rest(report: &Report) -> Option<Markup> {
    let mut parts: Vec<Markup> = Vec::new();
    for (topic, records) in report.topics() {
        if PathKind::by_name(topic).is_some() || topic.starts_with("scale-") || records[0].is_step() {
            continue;
        }
        let placeless: Vec<&Record> = records.iter().copied().filter(|record| record.at.is_none()).collect();
        let (along, still) = if topic == "calls" { (Vec::new(), Vec::new()) } else { along_axes(&records) };
        let part = html! {
            @if let Some(along) = drawings(&along) { (along) }
            @if !placeless.is_empty() { (bars_or_table(topic, &placeless)) }
        };
        parts.extend(topic_part(topic, (!along.is_empty() || !placeless.is_empty()).then_some(part), &still));
    }
    (!parts.is_empty()).then(|| html! { @for part in &parts { (part) } })
}

fn bars_or_table(topic: &str, records: &[&Record]) -> Markup {
    let title = capitalised(heading(topic));
    let unit: Unit = records[0].unit;
    if unit.has_ratios() && records.len() > 1 && records.iter().all(|record| record.unit == unit) {
        let groups: Vec<Group> =
            records.iter().map(|record| Group::values(record.full_title().trim_start(), record)).collect();
        // Two columns where there is room; all on the same axis.
        let half = groups.len().div_ceil(2).max(4);
        let part = |shown: &[Group]| rows::bars(&title, unit, shown, &groups);
        let all: Vec<Markup> = groups
            .chunks(half)
            .enumerate()
            .map(|(index, shown)| {
                // The heading above says what it is.
                let said = words::better(records[0].better);
                let said = if index == 0 { said.to_owned() } else { format!("{said}, continued") };
                drawing("", &said, part(shown))
            })
            .collect();
        drawings(&all).unwrap_or_default()
    } else {
        tables::records(&title, records)
    }
}
