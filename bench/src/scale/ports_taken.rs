//! By the share of ports to one destination that are taken: what finding a free port costs. Beside it: what an established
//! connection, and connections to other ports, cost with a table that is so full.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};

use anyhow::{Context, Result, ensure};
use azure_cni_tests::{Station, Vm};

use super::runner::Runner;
use crate::{
    collect::Collector,
    figure::Figure,
    load::{echo::Echo, first_packets},
    rounds::alternating,
    statistics::quantile,
    subject::Scale,
    testbed::EdgeVm,
    unit::Unit,
    variant::Variant,
};

/// Percent.
pub(super) const PLACES: [u32; 4] = [0, 50, 90, 99];
/// The first of the pods' ports, and of those that a flow may get.
const FIRST_PORT: u16 = 1024;
/// The flows that are measured take ports too: in all rounds together no more than half of what is left at the last place.
const MAX_OPENED: u16 = 140;
/// In a round: one that is refused takes its time.
const MAX_PER_ROUND: u16 = 28;
/// Where all flows go that take ports.
const DESTINATION: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 20), 7000);

/// How many flows to one destination there may be: by default ours ends where clients' ports begin on a VM, MASQUERADE at the
/// last port (net/netfilter/nf_nat_core.c).
fn capacity(variant: Variant) -> u32 {
    match variant {
        Variant::Ours => azure_cni_common::nat::PortRange::DEFAULT.size(),
        _ => u32::from(u16::MAX - FIRST_PORT) + 1,
    }
}

/// A VM on which so many percent of the ports are taken.
struct Site<'net> {
    percent: u32,
    edge: EdgeVm<'net>,
}

pub(super) fn measure<'net>(runner: &Runner<'_, 'net>, vms: &'net [Vm], collector: &mut Collector) -> Result<()> {
    let sites = runner.build(vms, PLACES, |variant, percent, vm| {
        runner.progress.step(&format!("taking {percent} % of the ports, {}", variant.title()));
        let site = Site { percent, edge: runner.edge(variant, vm)? };
        site.answering(runner, || site.fill()).with_context(|| format!("take ports, {}", variant.title()))?;
        Ok(site)
    })?;
    let paths: Vec<_> = sites.iter().map(|site| (site.percent, site.edge.to_internet())).collect();
    for round in 0..runner.plan.rounds {
        for site in alternating(sites.iter().collect(), round) {
            runner.step(round, Scale::PortsTaken, site.percent, site.edge.variant, "first packets");
            site.answering(runner, || site.open_flows(runner, round, collector))?;
        }
        runner.run_loads(Scale::PortsTaken, round, &paths, collector)?;
    }
    Ok(())
}

impl Site<'_> {
    /// Does something while the destination answers.
    fn answering(&self, runner: &Runner, work: impl FnOnce() -> Result<()>) -> Result<()> {
        let bind = || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, DESTINATION.port()));
        let socket = self.edge.internet.namespace().run(bind).context("a UDP socket")?;
        let echo = Echo::start(&socket, runner.cores.server)?;
        work()?;
        echo.finish()
    }

    /// Has the second pod hold the ports.
    fn fill(&self) -> Result<()> {
        let wanted = capacity(self.edge.variant) * self.percent / 100;
        let ports = FIRST_PORT..FIRST_PORT + wanted as u16;
        let answered = first_packets::take(&*self.edge.pods[1], ports, DESTINATION)?;
        // Some ports may be the VM's own.
        ensure!(answered as u32 >= wanted * 99 / 100, "{answered} of {wanted} flows were answered");
        Ok(())
    }

    /// Has the first pod open flows from ports that the second holds.
    fn open_flows(&self, runner: &Runner, round: u16, collector: &mut Collector) -> Result<()> {
        let opened = (MAX_OPENED / runner.plan.rounds).clamp(1, MAX_PER_ROUND);
        let first = FIRST_PORT + round * opened;
        let found = first_packets::measure(&*self.edge.pods[0], first..first + opened, DESTINATION, runner.cores)?;
        let (topic, at) = (Scale::PortsTaken.topic(), Some(Scale::PortsTaken.at(self.percent)));
        let mut took = found.took;
        took.resize(usize::from(opened), first_packets::REFUSED_AFTER.as_nanos() as f64);
        took.sort_by(f64::total_cmp);
        let variant = self.edge.variant;
        collector.figure(&topic, Figure::FirstPacketMedian, at, variant, quantile(&took, 0.5));
        let refused = found.refused as f64 / f64::from(opened);
        collector.sample(&format!("{topic}/refused"), "  refused", at, Unit::Share, variant, refused);
        Ok(())
    }
}
