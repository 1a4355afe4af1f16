//! How many look-ups in tables a packet takes, and how many instructions, counted in the kernel and by the processor.
//!
//! Look-ups in hashes and by longest prefix are calls, which the kernel lets other programs watch; those in arrays are an
//! addition and not counted.

use anyhow::{Context, Result, ensure};
use aya::{Btf, EbpfLoader, maps::Array, programs::FEntry};
use bpf_tests::Rig;

use super::cases::{self, Case};
use crate::{arm::Arm, collect::Collector, testbed::BENCH_OBJECT, unit::Unit};

/// What is counted, in the order of the map `COUNTS` of azure-cni-ebpf/src/bench.rs.
const COUNTED: [(&str, &str, &str); 3] = [
    ("count_hash", "__htab_map_lookup_elem", "hash look-ups"),
    ("count_prefix", "trie_lookup_elem", "prefix look-ups"),
    ("count_update", "htab_map_update_elem", "insertions"),
];
/// A number that no other case's packets have: [`cases::all`] begins at 0.
const NUMBER: u16 = 31_000;

pub(super) fn count(rig: &Rig, collector: &mut Collector) -> Result<()> {
    let process = std::process::id();
    let mut object = EbpfLoader::new()
        .override_global("COUNTED", &process, true)
        .load(BENCH_OBJECT)
        .context("load the benchmark's eBPF object")?;
    let btf = Btf::from_sys_fs().context("the kernel's types")?;
    for (program, function, _) in COUNTED {
        let watcher: &mut FEntry = object.program_mut(program).context("a program that counts")?.try_into()?;
        watcher.load(function, &btf).with_context(|| format!("watch the kernel's {function}"))?;
        watcher.attach()?;
    }
    let counts: Array<_, u64> = Array::try_from(object.take_map("COUNTS").context("no map COUNTS")?)?;
    let read = || -> Result<[u64; COUNTED.len()]> {
        let mut values = [0; COUNTED.len()];
        for (index, value) in values.iter_mut().enumerate() {
            *value = counts.get(&(index as u32), 0)?;
        }
        Ok(values)
    };
    for case in cases::all(rig) {
        let before = read()?;
        run_once(rig, &case)?;
        for ((after, before), (_, _, what)) in read()?.into_iter().zip(before).zip(COUNTED) {
            let id = format!("programs/{}, {what}", case.name());
            let title = format!("{}, {what}", case.name());
            collector.sample(&id, &title, None, Unit::Count, Arm::Ours, (after - before) as f64);
        }
    }
    Ok(())
}

fn run_once(rig: &Rig, case: &Case) -> Result<()> {
    let (seen, _) = rig.cost(case.hook, case.interface, &case.packet(NUMBER), 1);
    ensure!(seen == case.verdict, "{}: {seen:?} instead of {:?}", case.name(), case.verdict);
    Ok(())
}
