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

pub(crate) use self::{
    cost::{ProgramCost, Runs},
    memory::Memory,
};
use crate::{plan::Plan, progress::Progress};

/// What was found.
#[derive(Default)]
pub(crate) struct Programs {
    pub(crate) costs: Vec<ProgramCost>,
    pub(crate) memory: Option<Memory>,
}

/// Measures on a node of the rig's own; its files go to the network's private directory.
pub(crate) fn measure(net: &Fabric, plan: &Plan, progress: &Progress) -> Result<Programs> {
    if !plan.programs && !plan.memory {
        return Ok(Programs::default());
    }
    progress.note("measuring the eBPF programs alone");
    tempfile::env::override_temp_dir(&net.sandbox().create_dir("programs")?)
        .map_err(|other| anyhow!("temporary files already go to {}", other.display()))?;
    // The rig moves the thread that makes it into namespaces of its own.
    thread::scope(|scope| scope.spawn(|| on_rig(plan)).join())
        .map_err(|_| anyhow!("the programs' rig failed, see above"))?
}

fn on_rig(plan: &Plan) -> Result<Programs> {
    let small_vm = DatapathConfig::default().table_sizes(0);
    let rig = Rig::with_tables(Rig::constants(), small_vm.max_flows, small_vm.max_opening);
    let memory = plan.memory.then(|| Memory::look(&rig)).transpose()?;
    let costs = if plan.programs { cost::measure(&rig)? } else { Vec::new() };
    Ok(Programs { costs, memory })
}
