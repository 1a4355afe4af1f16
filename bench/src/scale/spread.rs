//! By the number of remote addresses, and of flows, that a pod's packets alternate between. Beside it: what one connection of that pod,
//! or many short ones, cost while all those flows stand in the tables.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use azure_cni_tests::Vm;

use super::runner::{Runner, take};
use crate::{
    collect::Collector,
    load::{flows, reading::with_next_to_none_lost},
    rounds::alternating,
    subject::Scale,
    testbed::{EdgeVm, REMOTE_ADDRESSES, remote_address},
};

pub(super) const PLACES: usize = 3;

/// A place on the axis: so many addresses, from so many of the pod's ports.
#[derive(Clone, Copy)]
struct Place {
    addresses: u16,
    ports: u16,
}

impl Place {
    fn value(self) -> u32 {
        u32::from(self.addresses) * u32::from(self.ports)
    }
}

/// One address, many, and all that the pods of a virtual network may have.
pub(super) fn over_addresses<'net>(
    runner: &Runner<'_, 'net>,
    vms: &'net [Vm],
    collector: &mut Collector,
) -> Result<()> {
    let places = [1, 1_000, REMOTE_ADDRESSES].map(|addresses| Place { addresses, ports: 1 });
    measure(runner, vms, collector, Scale::RemoteAddresses, places)
}

/// 10, 1,000 and 100,000.
pub(super) fn over_flows<'net>(runner: &Runner<'_, 'net>, vms: &'net [Vm], collector: &mut Collector) -> Result<()> {
    let places = [(10, 1), (1_000, 1), (12_500, 8)].map(|(addresses, ports)| Place { addresses, ports });
    measure(runner, vms, collector, Scale::Flows, places)
}

fn measure<'net>(
    runner: &Runner<'_, 'net>,
    vms: &'net [Vm],
    collector: &mut Collector,
    scale: Scale,
    places: [Place; PLACES],
) -> Result<()> {
    let sites = runner.build(vms, places, |variant, place, vm| {
        runner.progress.step(&format!("building a VM for {} {}, {}", place.value(), scale.name(), variant.title()));
        Ok((place, runner.edge(variant, vm)?))
    })?;
    let paths: Vec<_> = sites.iter().map(|(place, edge)| (place.value(), edge.to_peered())).collect();
    for round in 0..runner.plan.rounds {
        for (place, edge) in alternating(sites.iter().collect(), round) {
            packets_in_turns(runner, scale, round, *place, edge, collector)?;
        }
        runner.run_loads(scale, round, &paths, collector)?;
    }
    Ok(())
}

/// Opens the flows as well, or finds them as the round before has left them.
fn packets_in_turns(
    runner: &Runner,
    scale: Scale,
    round: u16,
    place: Place,
    edge: &EdgeVm,
    collector: &mut Collector,
) -> Result<()> {
    let (variant, value) = (edge.variant, place.value());
    runner.step(round, scale, value, variant, "packets in turns");
    let targets: Vec<Ipv4Addr> = (0..place.addresses).map(remote_address).collect();
    let (pod, plan) = (&*edge.pods[0], runner.plan);
    let run = || flows::run(pod, &edge.peered, &targets, place.ports, runner.cores, plan.duration);
    let reading =
        with_next_to_none_lost(run).with_context(|| format!("{}, {value} {}", variant.title(), scale.name()))?;
    take(scale, value, variant, reading, collector);
    Ok(())
}
