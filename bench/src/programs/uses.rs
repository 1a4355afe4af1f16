//! How often a packet has the programs use a table: look-ups, insertions and removals. Programs that count are loaded for it.

use anyhow::{Context, Result};
use aya::maps::{Map, MapData, PerCpuArray};
use bpf_tests::Rig;

use super::{cases, tables};
use crate::{collect::Collector, unit::Unit, variant::Variant};

/// What is counted, by its place in the map USES.
const KINDS: [&str; 2] = ["hashes", "prefixes"];

pub(super) fn count(rig: &Rig, collector: &mut Collector) -> Result<()> {
    let counts = PerCpuArray::try_from(Map::PerCpuArray(tables::open(rig, "USES")?))?;
    for case in cases::all(rig) {
        let before = read(&counts)?;
        case.run(rig, 0, 1)?;
        for ((after, before), kind) in read(&counts)?.into_iter().zip(before).zip(KINDS) {
            let title = format!("{}, uses of {kind}", case.name());
            let uses = (after - before) as f64;
            collector.sample(&format!("programs/{title}"), &title, None, Unit::Count, Variant::Ours, uses);
        }
    }
    Ok(())
}

fn read(counts: &PerCpuArray<MapData, u64>) -> Result<[u64; KINDS.len()]> {
    let of = |index: usize| -> Result<u64> {
        let by_cpu = counts.get(&(index as u32), 0).with_context(|| format!("uses of {}", KINDS[index]))?;
        Ok(by_cpu.iter().sum())
    };
    Ok([of(0)?, of(1)?])
}
