//! By how many of the ports that flows to one destination may have are taken: what finding one costs, and what an established
//! connection, and connections to other ports, have of a table that is so full.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};

use anyhow::{Context, Result, ensure};
use azure_cni_tests::{Station, Vm};

use super::{Bench, Scale};
use crate::{
    arm::Arm,
    collect::Collector,
    figure::Figure,
    load::{echo::Echo, openings},
    rounds::in_turns,
    statistics::quantile,
    testbed::Outlet,
    unit::Unit,
};

/// Percent.
pub(super) const PLACES: [u32; 4] = [0, 50, 90, 99];
/// The first of the pods' ports, and of those that a flow may get.
const FIRST_PORT: u16 = 1024;
/// The flows that are measured take ports too: in all rounds together no more than half of what is left at the last place.
const MOST_OPENED: u16 = 140;
/// In a round: one that is refused takes its time.
const MOST_OF_ROUND: u16 = 28;
/// Where all flows go that take ports.
const DESTINATION: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 20), 7000);

/// How many flows to one destination there may be: by default ours ends where clients' ports begin on a VM, MASQUERADE at the
/// last port (net/netfilter/nf_nat_core.c).
fn capacity(arm: Arm) -> u32 {
    match arm {
        Arm::Ours => azure_cni_common::nat::PortRange::DEFAULT.size(),
        _ => u32::from(u16::MAX - FIRST_PORT) + 1,
    }
}

/// A VM on which so many percent of the ports are taken.
struct Site<'net> {
    percent: u32,
    outlet: Outlet<'net>,
}

pub(super) fn measure<'net>(bench: &Bench<'_, 'net>, vms: &'net [Vm], collector: &mut Collector) -> Result<()> {
    let sites = bench.build(vms, PLACES, |arm, percent, vm| {
        bench.progress.step(&format!("taking {percent} % of the ports, {}", arm.title()));
        let site = Site { percent, outlet: bench.outlet(arm, vm)? };
        site.answering(bench, || site.fill()).with_context(|| format!("take ports, {}", arm.title()))?;
        Ok(site)
    })?;
    let lanes: Vec<_> = sites.iter().map(|site| (site.percent, site.outlet.to_internet())).collect();
    for round in 0..bench.plan.rounds {
        for site in in_turns(sites.iter().collect(), round) {
            bench.step(round, Scale::PortsTaken, site.percent, site.outlet.arm, "first packets");
            site.answering(bench, || site.open_flows(bench, round, collector))?;
        }
        bench.run_loads(Scale::PortsTaken, round, &lanes, collector)?;
    }
    Ok(())
}

impl Site<'_> {
    /// Does something while the destination answers.
    fn answering(&self, bench: &Bench, work: impl FnOnce() -> Result<()>) -> Result<()> {
        let bind = || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, DESTINATION.port()));
        let socket = self.outlet.internet.namespace().run(bind).context("a UDP socket")?;
        let echo = Echo::start(&socket, bench.cores.server)?;
        work()?;
        echo.finish()
    }

    /// Has the second pod hold the ports.
    fn fill(&self) -> Result<()> {
        let wanted = capacity(self.outlet.arm) * self.percent / 100;
        let ports = FIRST_PORT..FIRST_PORT + wanted as u16;
        let answered = openings::take(&*self.outlet.pods[1], ports, DESTINATION)?;
        // Some ports may be the VM's own.
        ensure!(answered as u32 >= wanted * 99 / 100, "{answered} of {wanted} flows were answered");
        Ok(())
    }

    /// Has the first pod open flows from ports that the second holds.
    fn open_flows(&self, bench: &Bench, round: u16, collector: &mut Collector) -> Result<()> {
        let opened = (MOST_OPENED / bench.plan.rounds).clamp(1, MOST_OF_ROUND);
        let first = FIRST_PORT + round * opened;
        let found = openings::measure(&*self.outlet.pods[0], first..first + opened, DESTINATION, bench.cores)?;
        let (topic, at) = (Scale::PortsTaken.topic(), Some(Scale::PortsTaken.at(self.percent)));
        let mut took = found.took;
        took.resize(usize::from(opened), openings::REFUSED_AFTER.as_nanos() as f64);
        took.sort_by(f64::total_cmp);
        let arm = self.outlet.arm;
        collector.figure(&topic, Figure::OpeningMedian, at, arm, quantile(&took, 0.5));
        let refused = found.refused as f64 / f64::from(opened);
        collector.sample(&format!("{topic}/refused"), "  refused", at, Unit::Share, arm, refused);
        Ok(())
    }
}
