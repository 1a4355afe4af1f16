//! Whether a packet, a connection and a round trip cost the same as the node fills up: one thing grows, everything else stays.
//!
//! Ours beside the bridge, which users would have instead. Each place of an axis has VMs of its own, so that what stands in
//! their tables is its own; all places are measured in each round.

mod pods;
mod ports_taken;
mod runner;
mod spread;

use anyhow::{Context, Result};
use azure_cni_tests::Vm;

pub(crate) use self::runner::Runner;
use crate::{collect::Collector, plan::Plan, progress::Part, subject::Scale};

/// VMs that the fabric must have for a plan besides the others.
pub(crate) fn vms(plan: &Plan) -> usize {
    plan.scales().map(vms_of).sum()
}

/// A VM for each variant at each place.
pub(crate) fn vms_of(scale: Scale) -> usize {
    let places = match scale {
        Scale::Pods => pods::MAX_PLACES,
        Scale::RemoteAddresses | Scale::Flows => spread::PLACES,
        Scale::PortsTaken => ports_taken::PLACES.len(),
    };
    places * runner::VARIANTS.len()
}

/// `vms`: as many as [`vms`] says.
pub(crate) fn measure<'net>(runner: &Runner<'_, 'net>, mut vms: &'net [Vm], collector: &mut Collector) -> Result<()> {
    runner.progress.begin(Part::Scale);
    for scale in runner.plan.scales() {
        let own = vms.split_off(..vms_of(scale)).context("too few VMs for the axes")?;
        match scale {
            Scale::Pods => pods::measure(runner, own, collector)?,
            Scale::RemoteAddresses => spread::over_addresses(runner, own, collector)?,
            Scale::Flows => spread::over_flows(runner, own, collector)?,
            Scale::PortsTaken => ports_taken::measure(runner, own, collector)?,
        }
    }
    Ok(())
}
