//! Which file of the programs may know which: what docs/ARCHITECTURE.md says of them, held by their source.

use std::fs::read_to_string;
use std::path::Path;

const STEPS: [(&str, &[&str]); 5] = [
    ("bandwidth", &["bandwidth.rs"]),
    ("fragments", &["fragments.rs"]),
    ("conntrack", &["conntrack/mod.rs", "conntrack/assured.rs"]),
    ("nat", &["nat/mod.rs", "nat/search.rs"]),
    ("icmp", &["icmp.rs"]),
];

const ALL: [&str; 25] = [
    "atomic.rs",
    "bandwidth.rs",
    "conntrack/assured.rs",
    "conntrack/mod.rs",
    "events.rs",
    "fragments.rs",
    "globals.rs",
    "hooks/from_endpoint.rs",
    "hooks/from_wire.rs",
    "hooks/mod.rs",
    "hooks/to_endpoint.rs",
    "hooks/to_wire.rs",
    "icmp.rs",
    "maps.rs",
    "nat/mod.rs",
    "nat/search.rs",
    "packet/arp.rs",
    "packet/parse.rs",
    "packet/quoted.rs",
    "packet/rewrite.rs",
    "packet/v4.rs",
    "packet/v6.rs",
    "scratch.rs",
    "tables.rs",
    "verdict.rs",
];

fn source(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../azure-cni-ebpf/src").join(file);
    read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn files_that_say(what: &str) -> Vec<&'static str> {
    ALL.into_iter().filter(|file| source(file).contains(what)).collect()
}

#[test]
fn no_step_calls_another() {
    for (step, files) in STEPS {
        for (other, _) in STEPS.iter().filter(|(other, _)| *other != step) {
            for file in files {
                assert!(!source(file).contains(&format!("crate::{other}")), "{file} knows {other}");
            }
        }
    }
}

#[test]
fn one_file_reads_packets_and_one_writes_them() {
    assert_eq!(files_that_say("ctx.data_end()"), ["packet/parse.rs"]);
    assert_eq!(files_that_say("ctx.load("), ["packet/parse.rs"]);
    assert_eq!(files_that_say("ctx.store("), ["packet/rewrite.rs"]);
    assert_eq!(files_that_say("ctx.l4_csum_replace("), ["packet/rewrite.rs"]);
}

#[test]
fn one_file_makes_codes_and_counts_drops() {
    assert_eq!(files_that_say("TC_ACT_"), ["verdict.rs"]);
    assert_eq!(files_that_say("DROPS"), ["maps.rs", "verdict.rs"]);
}

/// Scratch is had by its right; a right is assumed where a run begins, where the kernel calls back, and in global functions, which take
/// numbers only.
#[test]
fn rights_to_scratch_are_assumed_where_a_run_or_a_call_of_the_kernel_begins() {
    assert_eq!(files_that_say("scratch_place()"), ["scratch.rs"]);
    assert_eq!(files_that_say("::assume()"), ["conntrack/assured.rs", "nat/search.rs", "scratch.rs"]);
    assert_eq!(files_that_say("scratch::begin"), ["hooks/mod.rs"]);
}
