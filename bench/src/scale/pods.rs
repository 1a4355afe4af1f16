//! By how many pods the VM has: two of them speak to each other, the others are there.

use anyhow::{Context, Result};
use azure_cni_tests::Vm;

use super::runner::Runner;
use crate::{
    collect::Collector,
    path::Path,
    subject::Scale,
    testbed::{self, Endpoint},
    variant::Variant,
};

/// The smallest VM with a path between pods, and one in the middle; the largest is the plan's.
const PLACES: [u8; 2] = [2, 50];
pub(super) const MAX_PLACES: usize = PLACES.len() + 1;

/// A VM with its pods.
struct PopulatedVm<'net> {
    variant: Variant,
    pods: Vec<Endpoint<'net>>,
}

impl PopulatedVm<'_> {
    /// Between the first pod and the last, at this VM's place.
    fn path(&self) -> (u32, Path<'_>) {
        (self.pods.len() as u32, Path::between(self.variant, &*self.pods[0], &*self.pods[self.pods.len() - 1]))
    }
}

pub(super) fn measure<'net>(runner: &Runner<'_, 'net>, vms: &'net [Vm], collector: &mut Collector) -> Result<()> {
    let most = runner.plan.pods.max(PLACES[0]);
    let places = PLACES.into_iter().filter(|place| *place < most).chain([most]);
    let populated = runner.build(vms, places, |variant, place, vm| populate(runner, variant, place, vm))?;
    let paths: Vec<_> = populated.iter().map(PopulatedVm::path).collect();
    (0..runner.plan.rounds).try_for_each(|round| runner.run_loads(Scale::Pods, round, &paths, collector))
}

fn populate<'net>(runner: &Runner<'_, 'net>, variant: Variant, place: u8, vm: &'net Vm) -> Result<PopulatedVm<'net>> {
    runner.progress.step(&format!("attaching {place} pods, {}", variant.title()));
    let names: Vec<String> = (0..place).map(|number| format!("pod{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let attached = testbed::attach(variant, vm, &names, runner.plugins);
    let pods = attached.with_context(|| format!("{place} pods, {}", variant.title()))?.pods;
    Ok(PopulatedVm { variant, pods })
}
