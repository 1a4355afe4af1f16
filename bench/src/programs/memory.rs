//! What a flow costs in memory, by the kernel's own account of the tables.
//!
//! The tables are preallocated: a place costs the same whether a flow has it or not, hash buckets included.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::fd::{AsFd, AsRawFd},
};

use anyhow::{Context, Result, ensure};
use bpf_tests::Rig;

use super::tables;
use crate::{collect::Collector, unit::Unit, variant::Variant};

/// What each kind of flow has an entry in.
const FLOWS: [(&str, &[&str]); 8] = [
    ("IPv4", &["FLOWS4"]),
    ("IPv4, translated", &["FLOWS4", "NAT4"]),
    ("IPv4, half-open", &["HALF_OPEN4"]),
    ("IPv4, half-open, translated", &["HALF_OPEN4", "NAT_HALF_OPEN4"]),
    ("IPv6", &["FLOWS6"]),
    ("IPv6, translated", &["FLOWS6", "NAT6"]),
    ("IPv6, half-open", &["HALF_OPEN6"]),
    ("IPv6, half-open, translated", &["HALF_OPEN6", "NAT_HALF_OPEN6"]),
];

/// `BPF_F_NO_PREALLOC` of include/uapi/linux/bpf.h.
const NO_PREALLOC: u64 = 1;

/// Looks at the tables of a node.
pub(super) fn measure(rig: &Rig, collector: &mut Collector) -> Result<()> {
    let mut names: Vec<&'static str> = FLOWS.iter().flat_map(|(_, tables)| tables.iter().copied()).collect();
    let mut seen = BTreeSet::new();
    names.retain(|name| seen.insert(*name));
    let tables = names.into_iter().map(|name| Ok((name, bytes_of_place(rig, name)?)));
    let tables = tables.collect::<Result<BTreeMap<_, _>>>()?;
    for (flow, of) in FLOWS {
        let bytes = of.iter().map(|name| tables[name]).sum();
        collector.sample(
            &format!("memory/{flow}"),
            &format!("A flow, {flow}"),
            None,
            Unit::Bytes,
            Variant::Ours,
            bytes,
        );
    }
    Ok(())
}

/// What a table takes in all, by its places.
fn bytes_of_place(rig: &Rig, name: &str) -> Result<f64> {
    let map = tables::open(rig, name)?;
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", map.fd().as_fd().as_raw_fd()))
        .with_context(|| format!("ask the kernel about {name}"))?;
    let number = |key: &str| {
        let value = info.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':').map(str::trim));
        let number = value.and_then(|text| match text.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16).ok(),
            None => text.parse().ok(),
        });
        number.with_context(|| format!("the kernel does not report {key} of {name}:\n{info}"))
    };
    ensure!(number("map_flags")? & NO_PREALLOC == 0, "{name} is not preallocated: its size says nothing of a flow's");
    let (places, bytes) = (number("max_entries")?, number("memlock")?);
    Ok(bytes as f64 / places as f64)
}
