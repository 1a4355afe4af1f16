//! What holds of the page of any report.

use std::collections::BTreeMap;

use maud::html;
use serde_json::json;

use super::*;
use crate::{
    record::{At, Axis, Distribution, Record},
    unit::Unit,
    variant::Variant,
};

const VARIANTS: [Variant; 6] =
    [Variant::Bare, Variant::LowerBound, Variant::Ours, Variant::Bridge, Variant::OursServicesKnown, Variant::Ptp];

fn empty() -> Report {
    let report = json!({
        "format": crate::report::FORMAT,
        "machine": {
            "kernel": "6.18 <custom> & \"own\"", "processor": "a processor", "virtual_machine": true, "cores": 2,
            "used": { "client": 0, "server": 1 }, "mitigations": { "spectre_v2": "Mitigation: Retpolines" },
            "bpf_stats_enabled": "0", "bpf_jit_enabled": "1", "versions": { "azure-cni-ebpf": "0.1.0" }
        },
        "method": { "mode": "default", "rounds": 5, "secondsPerLoad": 0.4, "secondsTaken": 600.0 },
        "interfaces": [], "disturbed": null, "records": [], "distributions": []
    });
    serde_json::from_value(report).expect("a report")
}

fn record(id: &str, title: &str, at: Option<u32>, unit: Unit, samples: &[f64]) -> Record {
    let samples: BTreeMap<_, _> = VARIANTS.into_iter().map(|variant| (variant, samples.to_vec())).collect();
    Record::new(id, title, at.map(|value| At { axis: Axis::Pods, value }), unit, samples)
}

/// A bit of everything, each sample `value`.
fn full(value: f64, rounds: usize) -> Report {
    let samples = vec![value; rounds];
    let mut records = vec![
        record("same-vm/packet-rate", "UDP, 64-byte frames", None, Unit::PacketsPerSecond, &samples),
        record("same-vm/packet-cost", "  sender's core, <per> packet", None, Unit::ProcessorNanoseconds, &samples),
        record("same-vm/packet-loss", "  lost", None, Unit::Share, &samples),
        record("internet/throughput-1", "TCP throughput", None, Unit::BitsPerSecond, &samples),
        record("same-vm/tcp-round-trip-p50", "TCP round trip, p50", None, Unit::Nanoseconds, &samples),
        record("restart/killed-lost", "agent killed & started, lost", None, Unit::Count, &samples),
        record("restart/killed-gap", "agent killed, longest gap", None, Unit::Nanoseconds, &samples),
        record("programs/from_wire: to a pod", "from_wire: to a pod", None, Unit::Nanoseconds, &samples),
        record("programs/to_wire: \"x\"", "to_wire: \"x\"", None, Unit::Nanoseconds, &samples),
        record("memory/IPv4", "A flow, IPv4", None, Unit::Bytes, &samples),
        record("of-the-future/figure", "something new", None, Unit::Bytes, &samples),
    ];
    for pods in [250, 1, 10] {
        records.push(record("scale-pods/packet-rate", "UDP by pods", Some(pods), Unit::PacketsPerSecond, &samples));
        records.push(record("leases/lease", "A lease", Some(pods), Unit::Nanoseconds, &samples));
        records.push(record("calls/add-p50", "ADD, p50", Some(pods), Unit::Nanoseconds, &samples));
    }
    let curve = vec![(0.0, value), (0.5, value), (0.99, value), (1.0, value)];
    let distribution = |id: &str| Distribution {
        id: id.into(),
        title: "TCP requests".into(),
        unit: Unit::Nanoseconds,
        variants: VARIANTS.into_iter().map(|variant| (variant, curve.clone())).collect(),
    };
    let distributions = vec![distribution("same-vm/tcp-round-trip"), distribution("calls/add")];
    Report { records, distributions, ..empty() }
}

#[test]
fn titles_of_every_record_and_variant_are_in_the_page() {
    let report = full(20_000.0, 5);
    let page = report.html();
    for title in report.records.iter().map(Record::full_title).chain(VARIANTS.map(|variant| variant.title().into())) {
        let escaped = html! { (title.trim_start()) }.into_string();
        assert!(page.contains(&escaped), "{title}");
    }
    for (topic, _) in report.topics() {
        assert!(page.contains(&capitalised(heading(topic))), "{topic}");
    }
}

#[test]
fn page_needs_nothing_from_elsewhere_and_runs_nothing() {
    let page = full(20_000.0, 5).html();
    for outside in ["http://", "https://", "<script", "<link", "<img", "@import", "src=", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn results_come_first_and_machine_and_method_last() {
    let page = full(20_000.0, 5).html();
    let place = |id: &str| page.find(&format!("<h2 id=\"{id}\"")).expect(id);
    let order = ["promises", "glance", "rates", "latencies", "growth", "agent", "figures", "measured"];
    assert!(order.map(place).is_sorted());
}

#[test]
fn text_is_escaped() {
    let page = full(20_000.0, 5).html();
    assert!(page.contains("6.18 &lt;custom&gt; &amp; ") && !page.contains("<custom>"));
    assert!(page.contains("&lt;per&gt; packet") && !page.contains("<per>"));
}

#[test]
fn empty_report_still_makes_a_page() {
    let page = empty().html();
    assert!(page.contains("Nothing was measured") && page.contains("a processor") && page.ends_with("</html>"));
}

#[test]
fn page_has_numbers_whatever_the_samples_are() {
    for value in [0.0, -3.0, 1e-9, 1.0, 5e7, 1e15] {
        for rounds in [1, 5] {
            let page = full(value, rounds).html();
            for wrong in ["NaN", "inf"] {
                let place = page.find(wrong).map(|at| page[at..].chars().take(40).collect::<String>());
                assert_eq!(place, None, "samples of {value}, {rounds} rounds");
            }
        }
    }
}

#[test]
fn report_of_any_single_record_makes_a_page() {
    let whole = full(20_000.0, 5);
    for record in &whole.records {
        let page = Report { records: vec![record.clone()], ..empty() }.html();
        assert!(page.contains("Every figure") && page.ends_with("</html>"), "{}", record.id);
    }
}

#[test]
fn noisy_run_is_called_one() {
    assert!(!full(20_000.0, 5).html().contains("NOISY RUN"));
    let mut noisy = full(20_000.0, 5);
    noisy.records.push({
        let variants = BTreeMap::from([(Variant::Bare, vec![1.0, 2.0, 3.0, 4.0, 5.0])]);
        Record::new("same-vm/connection-rate", "TCP connect", None, Unit::ConnectionsPerSecond, variants)
    });
    assert!(noisy.html().contains("NOISY RUN"));
}
