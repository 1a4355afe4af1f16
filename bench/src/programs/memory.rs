//! What a flow costs in memory, by the kernel's own account of the tables.
//!
//! The tables are preallocated: a place costs the same whether a flow has it or not, hash buckets included.

use std::{
    collections::BTreeSet,
    fs,
    os::fd::{AsFd, AsRawFd},
};

use anyhow::{Context, Result, ensure};
use aya::maps::MapData;
use azure_cni_common::ABI;
use bpf_tests::Rig;
use serde::Serialize;

/// What each kind of flow has an entry in.
const FLOWS: [(&str, &[&str]); 8] = [
    ("IPv4", &["FLOWS4"]),
    ("IPv4, translated", &["FLOWS4", "NAT4"]),
    ("IPv4, opening", &["OPENING4"]),
    ("IPv4, opening, translated", &["OPENING4", "NATOPEN4"]),
    ("IPv6", &["FLOWS6"]),
    ("IPv6, translated", &["FLOWS6", "NAT6"]),
    ("IPv6, opening", &["OPENING6"]),
    ("IPv6, opening, translated", &["OPENING6", "NATOPEN6"]),
];

/// `BPF_F_NO_PREALLOC` of include/uapi/linux/bpf.h.
const NO_PREALLOC: u64 = 1;

/// What was found.
#[derive(Debug, Serialize)]
pub(crate) struct Memory {
    pub(crate) tables: Vec<Table>,
    pub(crate) flows: Vec<FlowMemory>,
}

/// A table.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) places: u64,
    pub(crate) bytes: u64,
    pub(crate) bytes_per_place: f64,
}

/// The bytes of all entries of one flow.
#[derive(Debug, Serialize)]
pub(crate) struct FlowMemory {
    pub(crate) flow: &'static str,
    pub(crate) bytes: f64,
}

impl Memory {
    pub(super) fn look(rig: &Rig) -> Result<Self> {
        let mut names: Vec<&'static str> = FLOWS.iter().flat_map(|(_, tables)| tables.iter().copied()).collect();
        let mut seen = BTreeSet::new();
        names.retain(|name| seen.insert(*name));
        let tables = names.into_iter().map(|name| Table::look(rig, name)).collect::<Result<Vec<_>>>()?;
        let place = |name: &&str| {
            tables.iter().find(|table| table.name == *name).expect("every table was looked at").bytes_per_place
        };
        let flows = FLOWS.map(|(flow, tables)| FlowMemory { flow, bytes: tables.iter().map(place).sum() }).into();
        Ok(Self { tables, flows })
    }
}

impl Table {
    fn look(rig: &Rig, name: &'static str) -> Result<Self> {
        let pin = rig.settings().dir.join(format!("abi{ABI}/maps/{name}"));
        let map = MapData::from_pin(&pin).with_context(|| format!("open {}", pin.display()))?;
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", map.fd().as_fd().as_raw_fd()))
            .with_context(|| format!("ask the kernel about {name}"))?;
        let number = |key: &str| {
            let value = info.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':').map(str::trim));
            let number = value.and_then(|text| match text.strip_prefix("0x") {
                Some(hex) => u64::from_str_radix(hex, 16).ok(),
                None => text.parse().ok(),
            });
            number.with_context(|| format!("the kernel does not tell {key} of {name}:\n{info}"))
        };
        ensure!(
            number("map_flags")? & NO_PREALLOC == 0,
            "{name} is not preallocated: its size says nothing of a flow's"
        );
        let (places, bytes) = (number("max_entries")?, number("memlock")?);
        Ok(Self { name, places, bytes, bytes_per_place: bytes as f64 / places as f64 })
    }
}
