//! A report for the tests of what is made of one.

use serde_json::{Value, json};

use super::{FORMAT, Method, Report};
use crate::{record::Record, subject::Mode};

pub(super) fn machine() -> Value {
    json!({
        "kernel": "6.18", "processor": "a processor", "virtual_machine": true, "cores": 2,
        "used": { "client": 0, "server": 1 }, "mitigations": { "spectre_v2": "Retpolines" },
        "bpf_stats_enabled": "0", "bpf_jit_enabled": "1",
        "versions": { "azure-cni-ebpf": "0.1.0", "iptables-nft": "1.8" }
    })
}

pub(super) fn report(records: Vec<Record>) -> Report {
    Report {
        format: FORMAT,
        machine: serde_json::from_value(machine()).expect("a machine"),
        method: Method { mode: Mode::Default, rounds: 5, seconds_per_load: 0.4, seconds_taken: 60.0 },
        interfaces: Vec::new(),
        disturbed: None,
        records,
        distributions: Vec::new(),
    }
}
