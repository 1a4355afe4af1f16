//! The benchmark runs, and its JSON says what its readers rely on. Nothing here judges how fast anything is.

use std::{env, fs, path::Path, process::Command};

use serde_json::Value;

/// Runs the benchmark with short rounds; its binaries are those of this very build.
fn bench(arguments: &[&str]) -> Value {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("bench.json");
    let bench = Path::new(env!("CARGO_BIN_EXE_bench"));
    let output = Command::new(bench)
        .args(["--rounds", "2", "--seconds", "0.3", "--json"])
        .arg(&file)
        .args(arguments)
        .output()
        .expect("the benchmark starts");
    let text = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&text));
    serde_json::from_str(&fs::read_to_string(&file).expect("a file")).expect("JSON")
}

fn texts<'json>(list: &'json Value, key: &str) -> Vec<&'json str> {
    list.as_array().expect("a list").iter().map(|item| item[key].as_str().expect("a text")).collect()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is not a number"))
}

/// A median between the ends of its spread.
fn assert_summary(summary: &Value) {
    let [low, median, high] = ["low", "median", "high"].map(|key| number(&summary[key]));
    assert!(low <= median && median <= high, "{summary}");
}

#[test]
fn every_path_figure_and_arm_has_samples_and_ratios() {
    let report = bench(&["--pods", "3"]);
    assert_eq!(report["format"], 1);
    let results = report["results"].as_array().expect("results");
    let kinds: Vec<_> =
        results.iter().map(|result| (result["path"].as_str().unwrap(), result["figure"].as_str().unwrap())).collect();
    for path in ["same-vm", "across-vms", "internet"] {
        for figure in [
            "packet-rate",
            "packet-cost",
            "packet-loss",
            "connection-rate",
            "connection-cost",
            "latency-median",
            "latency-tail",
            "throughput",
        ] {
            assert!(kinds.contains(&(path, figure)), "{path} {figure} in {kinds:?}");
        }
    }
    for result in results {
        let (path, figure) = (&result["path"], &result["figure"]);
        let same_vm = *path == "same-vm";
        let expected: &[&str] = if same_vm { &["bare", "ours", "bridge"] } else { &["ours", "bridge"] };
        assert_eq!(texts(&result["arms"], "arm"), expected, "{path} {figure}");
        for arm in result["arms"].as_array().expect("arms") {
            let samples = arm["samples"].as_array().expect("samples");
            assert_eq!(samples.len(), 2, "{path} {figure}");
            if figure == "packet-loss" {
                assert!(samples.iter().all(|share| (0.0..1.0).contains(&number(share))), "{path} {arm}");
            } else {
                assert!(samples.iter().all(|sample| number(sample) > 0.0), "{path} {figure} {arm}");
            }
            assert_summary(&arm["summary"]);
        }
        let is_cost = figure == "packet-cost" || figure == "connection-cost";
        assert_eq!(result["beyondBare"].is_object(), is_cost, "{path} {figure}");
        let peers: &[&str] = if figure == "packet-loss" { &[] } else { &["bare", "bridge"] };
        assert_eq!(texts(&result["ratios"], "peer"), peers, "{path} {figure}");
        for ratio in result["ratios"].as_array().expect("ratios") {
            assert_summary(&ratio["comparison"]);
            assert!(number(&ratio["comparison"]["low"]) > 0.0);
            // Two rounds are no proof of anything.
            assert_eq!(ratio["comparison"]["verdict"], "too-few-rounds");
        }
    }
    assert_wirings_alike(&report["interfaces"]);
    assert_programs(&report["programs"]);
    assert_memory(&report["memory"]);
    assert_leases(&report["leases"]);
    assert_calls(&report["calls"]);
    for key in ["kernel", "processor", "mitigations", "versions"] {
        assert!(!report["machine"][key].is_null(), "{key}");
    }
}

fn assert_wirings_alike(wirings: &Value) {
    for arm in ["bare", "ours", "bridge"] {
        assert!(texts(wirings, "arm").contains(&arm), "{arm} in {wirings}");
    }
    for key in ["mtu", "gsoMaxSize", "txChecksum", "tso", "gso", "gro"] {
        let values: Vec<_> = wirings.as_array().expect("a list").iter().map(|wiring| &wiring[key]).collect();
        assert!(!values[0].is_null() && values.windows(2).all(|pair| pair[0] == pair[1]), "{key}: {values:?}");
    }
}

fn assert_programs(programs: &Value) {
    for program in ["from_endpoint", "to_endpoint", "from_wire", "to_wire"] {
        assert!(texts(programs, "program").contains(&program), "{program} in {programs}");
    }
    for cost in programs.as_array().expect("a list") {
        assert_summary(&cost["nanosecondsPerPacket"]);
        assert!(number(&cost["nanosecondsPerPacket"]["median"]) > 0.0, "{cost}");
    }
    for runs in ["repeated", "single"] {
        assert!(texts(programs, "runs").contains(&runs), "{runs} in {programs}");
    }
}

fn assert_leases(leases: &Value) {
    let costs = leases.as_array().expect("a list");
    let sizes: Vec<_> = costs.iter().map(|cost| cost["addresses"].as_u64().expect("a number")).collect();
    assert_eq!(sizes, [100, 1_000, 16_000]);
    for cost in costs {
        assert_summary(&cost["summary"]);
        assert!(number(&cost["summary"]["low"]) > 0.0, "{cost}");
    }
}

fn assert_calls(calls: &Value) {
    assert_eq!(calls["pods"], 3);
    let figures = calls["figures"].as_array().expect("a list");
    let kinds: Vec<_> =
        figures.iter().map(|figure| (figure["verb"].as_str().unwrap(), figure["what"].as_str().unwrap())).collect();
    let whats = ["median", "tail", "all-at-once"];
    assert_eq!(kinds, [whats.map(|what| ("ADD", what)), whats.map(|what| ("DEL", what))].concat());
    for figure in figures {
        assert_eq!(texts(&figure["arms"], "arm"), ["ours", "bridge"], "{figure}");
        for arm in figure["arms"].as_array().expect("arms") {
            assert_summary(&arm["summary"]);
            assert!(number(&arm["summary"]["low"]) > 0.0, "{arm}");
        }
        assert_summary(&figure["ratio"]);
    }
    assert!(number(&calls["agentResidentBytes"]) > 0.0, "{calls}");
    assert!(!calls["status"].as_array().expect("a list").is_empty(), "{calls}");
    for (command, step) in [("ADD", "veth"), ("ADD", "whole"), ("DEL", "unlink"), ("STATUS", "whole")] {
        let steps = calls["steps"].as_array().expect("a list");
        assert!(
            steps.iter().any(|time| time["command"] == command && time["step"] == step),
            "{command} {step}: {steps:?}"
        );
    }
}

/// A translated flow has a place in two tables, so it takes more.
fn assert_memory(memory: &Value) {
    let flows = memory["flows"].as_array().expect("a list");
    let bytes = |name: &str| {
        let flow = flows.iter().find(|flow| flow["flow"] == name);
        number(&flow.unwrap_or_else(|| panic!("{name} in {memory}"))["bytes"])
    };
    for kind in ["IPv4", "IPv4, opening", "IPv6", "IPv6, opening"] {
        assert!(bytes(kind) > 0.0 && bytes(&format!("{kind}, translated")) > bytes(kind), "{memory}");
    }
    for table in memory["tables"].as_array().expect("a list") {
        assert!(number(&table["bytesPerPlace"]) > 0.0, "{table}");
    }
}

#[test]
fn filter_and_arm_leave_the_rest_out() {
    let report = bench(&["--filter", "same-vm/udp", "--arm", "bare"]);
    assert_eq!(texts(&report["results"], "figure"), ["packet-rate", "packet-cost", "packet-loss"]);
    for result in report["results"].as_array().expect("results") {
        assert_eq!(texts(&result["arms"], "arm"), ["bare"]);
        assert_eq!(result["ratios"], Value::Array(Vec::new()));
    }
    assert_eq!(report["programs"], Value::Array(Vec::new()));
    assert_eq!(report["memory"], Value::Null);
    assert_eq!(report["leases"], Value::Array(Vec::new()));
    assert_eq!(report["calls"], Value::Null);
}
