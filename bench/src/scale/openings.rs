//! By how many of the ports that flows to one destination may have are taken: what finding one costs.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};

use anyhow::{Context, Result, ensure};

use super::{Bench, Scale, TOPIC};
use crate::{
    arm::Arm,
    collect::Collector,
    figure::Figure,
    load::{echo::Echo, openings},
    rounds::in_turns,
    statistics::quantile,
    testbed::Site,
    unit::Unit,
};

/// Percent; each towards a destination of its own.
const PLACES: [u32; 4] = [0, 50, 90, 99];
/// The first of the pods' ports, and of those that a flow may get.
const FIRST_PORT: u16 = 1024;
/// The flows that are measured take ports too: in all rounds together no more than half of what is left at the last place.
const MOST_OPENED: u16 = 140;
/// The destinations' own.
const ECHO_PORT: u16 = 7000;

/// How many flows to one destination there may be: by default ours ends where clients' ports begin on a VM, MASQUERADE at the
/// last port (net/netfilter/nf_nat_core.c).
fn capacity(arm: Arm) -> u32 {
    match arm {
        Arm::Ours => azure_cni_common::snat::PortRange::DEFAULT.size(),
        _ => u32::from(u16::MAX - FIRST_PORT) + 1,
    }
}

pub(super) fn measure(bench: &Bench, collector: &mut Collector) -> Result<()> {
    let sites = bench.arms().map(|arm| bench.testbed.site(arm).context("no VM at the wire's other end"));
    let sites = sites.collect::<Result<Vec<_>>>()?;
    let mut echoes = Vec::new();
    for site in &sites {
        let socket = azure_cni_tests::Station::namespace(&site.internet)
            .run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, ECHO_PORT)))
            .context("a UDP socket")?;
        echoes.push(Echo::start(&socket, bench.cores.server)?);
        for (index, percent) in PLACES.into_iter().enumerate() {
            bench.progress.step(&format!("taking {percent} % of the ports, {}", site.arm.title()));
            fill(site, percent, destination(index)).with_context(|| format!("take ports, {}", site.arm.title()))?;
        }
    }
    let opened = (MOST_OPENED / bench.plan.rounds).max(1);
    let all: Vec<_> =
        PLACES.iter().enumerate().flat_map(|place| sites.iter().map(move |site| (place, *site))).collect();
    for round in 0..bench.plan.rounds {
        for ((index, percent), site) in in_turns(all.clone(), round) {
            bench.step(round, Scale::PortsTaken, *percent, site.arm);
            let first = FIRST_PORT + round * opened;
            let found = openings::measure(&*site.outbound[0], first..first + opened, destination(index), bench.cores)?;
            let at = Some(Scale::PortsTaken.at(*percent));
            let topic = format!("{TOPIC}-{}", Scale::PortsTaken.name());
            let mut took = found.took;
            took.resize(usize::from(opened), openings::REFUSED_AFTER.as_nanos() as f64);
            took.sort_by(f64::total_cmp);
            collector.figure(&topic, Figure::OpeningMedian, at, site.arm, quantile(&took, 0.5));
            let refused = found.refused as f64 / f64::from(opened);
            collector.sample(&format!("{topic}/refused"), "  refused", at, Unit::Share, site.arm, refused);
        }
    }
    echoes.into_iter().try_for_each(Echo::finish)
}

/// Of a place, by its number.
fn destination(index: usize) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 20 + index as u8), ECHO_PORT)
}

/// Has the VM's second pod hold so many percent of the ports towards a destination.
fn fill(site: &Site, percent: u32, destination: SocketAddrV4) -> Result<()> {
    let wanted = capacity(site.arm) * percent / 100;
    let ports = FIRST_PORT..FIRST_PORT + wanted as u16;
    let answered = openings::take(&*site.outbound[1], ports, destination)?;
    // Some ports may be the VM's own.
    ensure!(answered as u32 >= wanted * 99 / 100, "{answered} of {wanted} flows were answered");
    Ok(())
}
