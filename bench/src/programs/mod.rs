//! The eBPF programs by themselves, without traffic: what they cost for each packet, and what a flow costs in memory.
//!
//! They are loaded by the agent's own loader on a node that is nothing but interfaces, with tables of the size that a
//! small VM gets.

mod cases;
mod cost;
mod memory;

use std::thread;

use anyhow::{Result, anyhow};
use azure_cni_agent::config::DatapathConfig;
use azure_cni_tests::Fabric;
use bpf_tests::Rig;

use crate::{
    collect::Collector,
    plan::{Plan, Topic},
    progress::{Part, Progress},
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
    // The rig moves the thread that makes it into namespaces of its own.
    thread::scope(|scope| {
        let on_rig = scope.spawn(|| -> Result<()> {
            let small_vm = DatapathConfig::default().table_sizes(0);
            let rig = Rig::with_tables(Rig::constants(), small_vm.max_flows, small_vm.max_opening);
            if plan.has(Topic::Memory) {
                memory::look(&rig, collector)?;
            }
            if plan.has(Topic::Programs) {
                cost::measure(&rig, plan.rounds, collector)?;
            }
            Ok(())
        });
        on_rig.join().map_err(|_| anyhow!("the programs' rig failed, see above"))?
    })
}
