//! The benchmark runs, and its JSON says what its readers rely on. Nothing here judges how fast anything is.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    thread,
};

use serde_json::Value;
use tempfile::TempDir;

/// Every kind of load, every path, and everything else that there is, in three runs beside each other. That makes figures wrong and the
/// test short. What measures flows measures remote addresses too.
const PARTS: [&[&str]; 3] = [
    &[
        "same-vm/",
        "across-vms/udp-packets",
        "internet/udp-packets",
        "internet/tcp-connect",
        "from-outside/udp-packets",
        "from-host/tcp-connect",
    ],
    &["scale/pods", "scale/flows", "scale/ports-taken"],
    &["restart", "programs", "memory", "leases", "calls"],
];

/// A run of the benchmark of this very build.
struct Run {
    dir: TempDir,
    output: Output,
}

impl Run {
    fn of(arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let output = bench().current_dir(&dir).args(arguments).output().expect("the benchmark starts");
        Self { dir, output }
    }

    fn text(&self) -> String {
        [&*self.output.stdout, &*self.output.stderr].map(String::from_utf8_lossy).concat()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What it wrote to `report.json`.
    fn report(&self) -> Value {
        assert!(self.output.status.success(), "{}", self.text());
        serde_json::from_str(&fs::read_to_string(self.file("report.json")).expect("a file")).expect("JSON")
    }
}

fn bench() -> Command {
    Command::new(Path::new(env!("CARGO_BIN_EXE_bench")))
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is not a number"))
}

fn records(report: &Value) -> &[Value] {
    report["records"].as_array().expect("records")
}

fn record<'report>(report: &'report Value, id: &str) -> &'report Value {
    let found = records(report).iter().find(|record| record["id"] == id);
    found.unwrap_or_else(|| {
        panic!("no {id} in {:?}", records(report).iter().map(|record| &record["id"]).collect::<Vec<_>>())
    })
}

/// Of all records of that id, in their order.
fn places(report: &Value, id: &str) -> Vec<u64> {
    let of_id = records(report).iter().filter(|record| record["id"] == id);
    of_id.map(|record| record["at"]["value"].as_u64().expect("a place")).collect()
}

fn variants(record: &Value) -> Vec<&str> {
    record["variants"].as_object().expect("variants").keys().map(String::as_str).collect()
}

/// A median between the ends of its spread.
fn assert_summary(summary: &Value) {
    let [low, median, high] = ["low", "median", "high"].map(|key| number(&summary[key]));
    assert!(low <= median && median <= high, "{summary}");
}

#[test]
fn everything_has_samples_and_ratios() {
    let part = |filters: &'static [&str]| {
        let how = ["--rounds", "1", "--seconds", "0.2", "--pods", "3", "--json", "report.json"];
        let filters = filters.iter().flat_map(|name| ["--filter", name]);
        Run::of(&how.into_iter().chain(filters).collect::<Vec<_>>()).report()
    };
    let [paths, scales, rest] = thread::scope(|scope| {
        PARTS
            .map(|filters| scope.spawn(move || part(filters)))
            .map(|run| run.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });

    [&paths, &scales, &rest].into_iter().for_each(assert_report);
    assert_paths(&paths);
    assert_interfaces_identical(&paths["interfaces"]);
    assert_scales(&scales);
    assert_programs(&rest);
    assert_memory(&rest);
    assert_calls(&rest);
    assert_eq!(places(&rest, "leases/lease"), [100, 1_000, 16_000]);
    for event in ["left-alone", "restarted", "killed"] {
        let ours = |figure| {
            number(&record(&rest, &format!("restart/{event}-{figure}"))["variants"]["ours"]["summary"]["median"])
        };
        assert!(ours("gap") > 0.0, "{event}");
        assert_eq!(ours("lost"), 0.0, "{event}");
    }
}

/// What holds of any report of one round.
fn assert_report(report: &Value) {
    assert_eq!(report["format"], 3);
    for key in ["kernel", "processor", "mitigations", "versions"] {
        assert!(!report["machine"][key].is_null(), "{key}");
    }
    for record in records(report) {
        for series in record["variants"].as_object().expect("variants").values() {
            assert_summary(&series["summary"]);
            assert!(!series["samples"].as_array().expect("samples").is_empty(), "{record}");
        }
        for ratio in record["ratios"].as_object().expect("ratios").values() {
            assert_summary(ratio);
            // One round is no proof of anything.
            assert_eq!(ratio["verdict"], "too-few-rounds");
        }
    }
}

fn assert_paths(report: &Value) {
    for figure in [
        "packet-rate",
        "packet-cost",
        "connection-rate",
        "connection-cost",
        "connection-machine-cost",
        "tcp-round-trip-p50",
        "tcp-round-trip-p999",
        "udp-round-trip-p99",
        "throughput-1",
        "throughput-8-cost",
    ] {
        let record = record(report, &format!("same-vm/{figure}"));
        let has_lower_bound = ["packet", "connection"].iter().any(|kind| figure.starts_with(kind));
        // Of figures that say little more than their neighbours.
        let has_ptp = !["udp-round-trip", "throughput-8"].iter().any(|kind| figure.starts_with(kind));
        let variants_besides = has_lower_bound.then_some("lower-bound").into_iter().chain(has_ptp.then_some("ptp"));
        let expected: BTreeSet<&str> = ["bare", "bridge", "ours"].into_iter().chain(variants_besides).collect();
        assert_eq!(variants(record).into_iter().collect::<BTreeSet<_>>(), expected, "{figure}");
        for variant in record["variants"].as_object().expect("variants").values() {
            assert!(number(&variant["summary"]["low"]) > 0.0, "{record}");
        }
        let is_cost = ["packet-cost", "connection-cost"].contains(&figure);
        assert_eq!(record["beyondBare"].is_object(), is_cost, "{figure}");
    }
    // What is along another path is compared with the bare pair too.
    for id in
        ["across-vms/packet-rate", "internet/connection-rate", "from-outside/packet-rate", "from-host/connection-cost"]
    {
        assert!(variants(record(report, id)).contains(&"bare"), "{id}");
    }
    assert!(variants(record(report, "internet/packet-rate")).contains(&"ours-services-known"));
    assert_distributions(report, &["same-vm/tcp-round-trip", "same-vm/udp-round-trip"]);
}

fn assert_distributions(report: &Value, ids: &[&str]) {
    let distributions = report["distributions"].as_array().expect("a list");
    for id in ids {
        let distribution = distributions.iter().find(|distribution| distribution["id"] == *id).expect(id);
        for points in distribution["variants"].as_object().expect("variants").values() {
            let values: Vec<f64> = points.as_array().expect("points").iter().map(|point| number(&point[1])).collect();
            assert!(values.len() > 2 && values.is_sorted(), "{id}: {values:?}");
        }
    }
}

fn assert_interfaces_identical(interfaces: &Value) {
    let interfaces = interfaces.as_array().expect("a list");
    let of: BTreeSet<&str> =
        interfaces.iter().map(|interface| interface["variant"].as_str().expect("a variant")).collect();
    assert_eq!(of, BTreeSet::from(["bare", "lower-bound", "ours", "bridge", "ours-services-known", "ptp"]));
    for key in ["mtu", "gsoMaxSize", "txChecksum", "tso", "gso", "gro"] {
        let values: Vec<_> = interfaces.iter().map(|interface| &interface[key]).collect();
        assert!(!values[0].is_null() && values.windows(2).all(|pair| pair[0] == pair[1]), "{key}: {values:?}");
    }
}

fn assert_scales(report: &Value) {
    assert_eq!(places(report, "scale-pods/packet-cost"), [2, 3]);
    assert_eq!(places(report, "scale-flows/packet-cost"), [10, 1_000, 100_000]);
    assert_eq!(places(report, "scale-ports-taken/first-packet-p50"), [0, 50, 90, 99]);
    for figure in ["connection-rate", "tcp-round-trip-p50", "tcp-round-trip-p99"] {
        assert_eq!(places(report, &format!("scale-pods/{figure}")), [2, 3]);
        assert_eq!(places(report, &format!("scale-flows/{figure}")), [10, 1_000, 100_000]);
        assert_eq!(places(report, &format!("scale-ports-taken/{figure}")), [0, 50, 90, 99]);
    }
    assert_eq!(places(report, "scale-pods/throughput-1"), [2, 3]);
    for record in
        records(report).iter().filter(|record| record["id"].as_str().is_some_and(|id| id.starts_with("scale")))
    {
        assert_eq!(variants(record), ["bridge", "ours"], "{record}");
    }
    // As long as ports are free every flow gets one.
    assert_eq!(number(&record(report, "scale-ports-taken/refused")["variants"]["ours"]["summary"]["median"]), 0.0);
}

fn assert_programs(report: &Value) {
    let ids = records(report).iter().filter_map(|record| record["id"].as_str()?.strip_prefix("programs/"));
    let ids: Vec<&str> = ids.collect();
    for program in ["from_endpoint", "to_endpoint", "from_wire", "to_wire"] {
        assert!(ids.iter().any(|id| id.starts_with(program)), "{program} in {ids:?}");
    }
    assert!(ids.iter().any(|id| id.ends_with("single runs")), "{ids:?}");
    // The budget of a known flow: its own look-up.
    let uses = record(report, "programs/from_endpoint: to another VM, uses of hashes");
    assert_eq!(number(&uses["variants"]["ours"]["summary"]["median"]), 1.0, "{uses}");
    for packet in ["from_endpoint: to another VM", "from_wire: from the Internet, reversed"] {
        let executed = record(report, &format!("programs/{packet}, instructions"));
        assert!((50.0..5000.0).contains(&number(&executed["variants"]["ours"]["summary"]["median"])), "{executed}");
    }
}

/// A translated flow has a place in two tables, so it takes more.
fn assert_memory(report: &Value) {
    let bytes =
        |flow: &str| number(&record(report, &format!("memory/{flow}"))["variants"]["ours"]["summary"]["median"]);
    for kind in ["IPv4", "IPv4, half-open", "IPv6", "IPv6, half-open"] {
        assert!(bytes(kind) > 0.0 && bytes(&format!("{kind}, translated")) > bytes(kind), "{kind}");
    }
}

fn assert_calls(report: &Value) {
    assert_distributions(report, &["calls/add"]);
    for verb in ["add", "del"] {
        for figure in ["p50", "p99", "all", "rate"] {
            let id = format!("calls/{verb}-{figure}");
            assert_eq!(places(report, &id), [1, 3], "{id}");
            assert_eq!(variants(record(report, &id)), ["bridge", "ours"], "{id}");
        }
    }
    for id in ["calls/agent-memory", "calls/add-agent-cost", "calls/status-p99", "calls/nothing-p50"] {
        assert!(number(&record(report, id)["variants"]["ours"]["summary"]["low"]) > 0.0, "{id}");
    }
    for topic in ["steps-one", "steps-all"] {
        for step in ["add-total", "add-veth", "del-unlink"] {
            for figure in ["p50", "p99"] {
                assert_eq!(places(report, &format!("{topic}/{step}-{figure}")), [1, 3], "{topic} {step}");
            }
        }
    }
}

#[test]
fn filter_and_variant_leave_the_rest_out() {
    let how = ["--rounds", "2", "--seconds", "0.2", "--json", "report.json"];
    let what = ["--filter", "same-vm/udp-packets", "--variant", "bare"];
    let report = Run::of(&[how.as_slice(), &what].concat()).report();
    let ids: Vec<_> = records(&report).iter().map(|record| record["id"].as_str().expect("an id")).collect();
    assert_eq!(ids, ["same-vm/packet-rate", "same-vm/packet-cost", "same-vm/packet-loss"]);
    for record in records(&report) {
        assert_eq!(variants(record), ["bare"]);
        assert_eq!(record["ratios"], serde_json::json!({}));
    }
}

#[test]
fn report_of_an_earlier_run_is_made_again_without_measuring() {
    let run = Run::of(&["--rounds", "1", "--filter", "leases", "--json", "report.json"]);
    run.report();
    let report = run.file("report.json").to_string_lossy().into_owned();
    let again =
        Run::of(&["--from", &report, "--compare", &report, "--html", "report.html", "--summary", "summary.json"]);
    assert!(again.output.status.success(), "{}", again.text());
    for part in ["Promises of a default installation", "P19", "cannot tell", "0 worse"] {
        assert!(again.text().contains(part), "{part} in {}", again.text());
    }
    assert!(again.file("report.html").is_file() && again.file("summary.json").is_file());

    let report = Run::of(&["--from", "no-such-file.json"]);
    assert!(!report.output.status.success());
    assert!(report.text().contains("no-such-file.json"), "{}", report.text());

    let other = tempfile::NamedTempFile::new().expect("a file");
    fs::write(&other, r#"{"format": 1}"#).expect("written");
    let report = Run::of(&["--from", &other.path().to_string_lossy()]);
    assert!(report.text().contains("format 1"), "{}", report.text());
}
