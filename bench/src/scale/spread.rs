//! By how many remote addresses, and by how many flows, a pod's packets go round.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};

use super::{Bench, Scale, TOPIC};
use crate::{
    collect::Collector,
    load::{flows, with_next_to_none_lost},
    rounds::in_turns,
    testbed::{REMOTE_ADDRESSES, remote_address},
};

/// A place on the axis: so many addresses, from so many of the pod's ports.
struct Place {
    addresses: u16,
    ports: u16,
}

/// One address, many, and all that the pods of a virtual network may have.
pub(super) fn over_addresses(bench: &Bench, collector: &mut Collector) -> Result<()> {
    let places = [1, 1_000, REMOTE_ADDRESSES].map(|addresses| Place { addresses, ports: 1 });
    measure(bench, collector, Scale::RemoteAddresses, &places)
}

/// 10, 1,000 and 100,000.
pub(super) fn over_flows(bench: &Bench, collector: &mut Collector) -> Result<()> {
    let places = [(10, 1), (1_000, 1), (12_500, 8)].map(|(addresses, ports)| Place { addresses, ports });
    measure(bench, collector, Scale::Flows, &places)
}

fn measure(bench: &Bench, collector: &mut Collector, scale: Scale, places: &[Place]) -> Result<()> {
    let topic = format!("{TOPIC}-{}", scale.name());
    let all: Vec<_> = places.iter().flat_map(|place| bench.arms().map(move |arm| (place, arm))).collect();
    for round in 0..bench.plan.rounds {
        for (Place { addresses, ports }, arm) in in_turns(all.clone(), round) {
            let value = u32::from(*addresses) * u32::from(*ports);
            bench.step(round, scale, value, arm);
            let site = bench.testbed.site(arm).context("no VM at the wire's other end")?;
            let targets: Vec<Ipv4Addr> = (0..*addresses).map(remote_address).collect();
            let run =
                || flows::run(&*site.outbound[0], &site.peered, &targets, *ports, bench.cores, bench.plan.duration);
            let what = || format!("{}, {value} {}", arm.title(), scale.name());
            for (figure, sample) in with_next_to_none_lost(run).with_context(what)?.values {
                collector.figure(&topic, figure, Some(scale.at(value)), arm, sample);
            }
        }
    }
    Ok(())
}
