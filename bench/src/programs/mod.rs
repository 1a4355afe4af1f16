//! The eBPF programs by themselves, without traffic: what they cost for each packet, and what a flow costs in memory.
//!
//! They are loaded by the agent's own loader on a node that is nothing but interfaces, with tables of the size that a
//! small VM gets.

mod cases;
mod cost;
mod instructions;
mod memory;
mod tables;
mod uses;

use std::thread;

use anyhow::{Result, anyhow};
use aya::include_bytes_aligned;
use azure_cni_agent::config::DatapathConfig;
use azure_cni_datapath::OBJECT;
use azure_cni_tests::Fabric;
use bpf_tests::Rig;

use crate::{
    collect::Collector,
    plan::Plan,
    progress::{Part, Progress},
    subject::Topic,
};

/// The same programs as the agent's, but these count how often tables are used.
static COUNTING_OBJECT: &[u8] = include_bytes_aligned!(env!("COUNTING_EBPF_OBJECT"));

/// Measures on a node of the rig's own; its files go to the network's private directory.
pub(crate) fn measure(net: &Fabric, plan: &Plan, collector: &mut Collector, progress: &Progress) -> Result<()> {
    if !plan.has(Topic::Programs) && !plan.has(Topic::Memory) {
        return Ok(());
    }
    progress.begin(Part::Programs);
    progress.step("measuring the eBPF programs alone");
    tempfile::env::override_temp_dir(&net.sandbox().create_dir("programs")?)
        .map_err(|other| anyhow!("temporary files already go to {}", other.display()))?;
    on_rig(OBJECT, |rig| {
        if plan.has(Topic::Memory) {
            memory::measure(rig, collector)?;
        }
        if plan.has(Topic::Programs) {
            cost::measure(rig, plan.rounds, collector)?;
        }
        Ok(())
    })?;
    if plan.has(Topic::Programs) {
        on_rig(COUNTING_OBJECT, |rig| uses::count(rig, collector))?;
        on_rig(OBJECT, |rig| instructions::count(rig, collector))?;
    }
    Ok(())
}

fn on_rig(object: &'static [u8], work: impl FnOnce(&mut Rig) -> Result<()> + Send) -> Result<()> {
    let small_vm = DatapathConfig::default().table_sizes(0);
    // The rig moves the thread that makes it into namespaces of its own.
    thread::scope(|scope| {
        scope
            .spawn(|| {
                work(&mut Rig::with_programs(object, Rig::constants(), small_vm.max_flows, small_vm.max_half_open))
            })
            .join()
    })
    .map_err(|_| anyhow!("the programs' rig failed, see above"))?
}
