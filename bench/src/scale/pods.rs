//! By how many pods the VM has: two of them speak to each other, the others are there.

use anyhow::{Context, Result};
use azure_cni_tests::Vm;

use super::{Bench, Scale};
use crate::{
    arm::Arm,
    collect::Collector,
    testbed::{self, Endpoint, Lane},
};

/// The smallest VM with a path between pods, and one in the middle; the largest is the plan's.
const PLACES: [u8; 2] = [2, 50];
pub(super) const MOST_PLACES: usize = PLACES.len() + 1;

/// A VM with its pods.
struct Crowd<'net> {
    arm: Arm,
    pods: Vec<Endpoint<'net>>,
}

impl Crowd<'_> {
    /// Between the first pod and the last, at this VM's place.
    fn lane(&self) -> (u32, Lane<'_>) {
        (self.pods.len() as u32, Lane::between(self.arm, &*self.pods[0], &*self.pods[self.pods.len() - 1]))
    }
}

pub(super) fn measure<'net>(bench: &Bench<'_, 'net>, vms: &'net [Vm], collector: &mut Collector) -> Result<()> {
    let most = bench.plan.pods.max(PLACES[0]);
    let places = PLACES.into_iter().filter(|place| *place < most).chain([most]);
    let crowds = bench.build(vms, places, |arm, place, vm| crowd(bench, arm, place, vm))?;
    let lanes: Vec<_> = crowds.iter().map(Crowd::lane).collect();
    (0..bench.plan.rounds).try_for_each(|round| bench.run_loads(Scale::Pods, round, &lanes, collector))
}

fn crowd<'net>(bench: &Bench<'_, 'net>, arm: Arm, place: u8, vm: &'net Vm) -> Result<Crowd<'net>> {
    bench.progress.step(&format!("attaching {place} pods, {}", arm.title()));
    let names: Vec<String> = (0..place).map(|number| format!("crowd{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let attached = testbed::attach(arm, vm, &names, bench.plugins);
    let pods = attached.with_context(|| format!("{place} pods, {}", arm.title()))?.pods;
    Ok(Crowd { arm, pods })
}
