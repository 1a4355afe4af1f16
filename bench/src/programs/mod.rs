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
use azure_cni_agent::{config::DatapathConfig, datapath::Constants};
use azure_cni_tests::Fabric;
use bpf_tests::Rig;

use crate::{
    collect::Collector,
    plan::Plan,
    progress::{Part, Progress},
    subject::Topic,
};

/// Measures on a node of the rig's own; its files go to the network's private directory.
pub(crate) fn measure(net: &Fabric, plan: &Plan, collector: &mut Collector, progress: &Progress) -> Result<()> {
    if !plan.has(Topic::Programs) && !plan.has(Topic::Memory) {
        return Ok(());
    }
    progress.begin(Part::Programs);
    progress.step("measuring the eBPF programs alone");
    tempfile::env::override_temp_dir(&net.sandbox().create_dir("programs")?)
        .map_err(|other| anyhow!("temporary files already go to {}", other.display()))?;
    on_rig(Rig::constants(), |rig| {
        if plan.has(Topic::Memory) {
            memory::measure(rig, collector)?;
        }
        if plan.has(Topic::Programs) {
            cost::measure(rig, plan.rounds, collector)?;
        }
        Ok(())
    })?;
    if plan.has(Topic::Programs) {
        on_rig(Constants { count_uses: true, ..Rig::constants() }, |rig| uses::count(rig, collector))?;
        on_rig(Rig::constants(), |rig| instructions::count(rig, collector))?;
    }
    Ok(())
}

fn on_rig(constants: Constants, work: impl FnOnce(&mut Rig) -> Result<()> + Send) -> Result<()> {
    let small_vm = DatapathConfig::default().table_sizes(0);
    // The rig moves the thread that makes it into namespaces of its own.
    thread::scope(|scope| {
        scope.spawn(|| work(&mut Rig::with_tables(constants, small_vm.max_flows, small_vm.max_opening))).join()
    })
    .map_err(|_| anyhow!("the programs' rig failed, see above"))?
}
