//! Whether a packet, a connection and a round trip cost the same as the node fills up: one thing grows, everything else stays.
//!
//! Ours beside the bridge, which is what users would have instead. Each place of an axis has VMs of its own, so that what stands in
//! their tables is its own; all places are measured in each round.

mod openings;
mod pods;
mod spread;

use std::path::Path as FilePath;

use anyhow::{Context, Result};
use azure_cni_tests::{Fabric, Station, Vm};

use crate::{
    arm::Arm,
    collect::Collector,
    figure::Figure,
    load::{Cores, Load, Reading},
    plan::{Mode, Plan},
    progress::{Part, Progress},
    record::{At, Axis},
    rounds::in_turns,
    testbed::{Lane, Outlet},
};

/// The arms that are compared.
const ARMS: [Arm; 2] = [Arm::Ours, Arm::Bridge];

/// Longer than any run.
const STANDING_SECS: u32 = 86_400;

/// VMs that the fabric must have for a plan besides the others.
pub(crate) fn vms(plan: &Plan) -> usize {
    plan.scales().map(Scale::vms).sum()
}

/// What grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    Pods,
    RemoteAddresses,
    Flows,
    PortsTaken,
}

impl Scale {
    /// How many arms on how many places.
    pub(crate) fn vms(self) -> usize {
        let places = match self {
            Self::Pods => pods::MOST_PLACES,
            Self::RemoteAddresses | Self::Flows => spread::PLACES,
            Self::PortsTaken => openings::PLACES.len(),
        };
        places * ARMS.len()
    }

    /// What one client and one server do at each place, besides what makes the axis: the cheap and the telling, or everything.
    pub(crate) fn loads(self, mode: Mode) -> &'static [Load] {
        use Load::*;
        match (self, mode) {
            (Self::Pods, _) => &[Packets, Connections, TcpRoundTrips, OneStream],
            (Self::RemoteAddresses | Self::Flows | Self::PortsTaken, Mode::Full) => {
                &[Connections, TcpRoundTrips, OneStream]
            }
            (Self::Flows | Self::PortsTaken, _) => &[Connections, TcpRoundTrips],
            // What a thousand addresses are to tables, a thousand flows are.
            (Self::RemoteAddresses, _) => &[],
        }
    }

    /// Of its records.
    fn topic(self) -> String {
        format!("scale-{}", self.name())
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pods => "pods",
            Self::RemoteAddresses => "remote-addresses",
            Self::Flows => "flows",
            Self::PortsTaken => "ports-taken",
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Pods => "two pods of a VM, by how many pods it has",
            Self::RemoteAddresses => {
                "UDP packets to addresses of the VNet in turns, and TCP beside them, by how many they are"
            }
            Self::Flows => "UDP packets of flows in turns, and TCP beside them, by how many they are",
            Self::PortsTaken => {
                "first packets through source NAT, and TCP beside them, by how many ports to a destination are taken"
            }
        }
    }

    fn at(self, value: u32) -> At {
        let axis = match self {
            Self::Pods => Axis::Pods,
            Self::RemoteAddresses => Axis::RemoteAddresses,
            Self::Flows => Axis::Flows,
            Self::PortsTaken => Axis::PortsTaken,
        };
        At { axis, value }
    }
}

/// What every scale is measured with.
pub(crate) struct Bench<'run, 'net> {
    pub(crate) net: &'net Fabric,
    pub(crate) plugins: &'net FilePath,
    pub(crate) plan: &'run Plan,
    pub(crate) cores: Cores,
    pub(crate) progress: &'run Progress,
}

/// `vms`: as many as [`vms`] says.
pub(crate) fn measure<'net>(bench: &Bench<'_, 'net>, mut vms: &'net [Vm], collector: &mut Collector) -> Result<()> {
    bench.progress.begin(Part::Scale);
    for scale in bench.plan.scales() {
        let own = vms.split_off(..scale.vms()).context("too few VMs for the axes")?;
        match scale {
            Scale::Pods => pods::measure(bench, own, collector)?,
            Scale::RemoteAddresses => spread::over_addresses(bench, own, collector)?,
            Scale::Flows => spread::over_flows(bench, own, collector)?,
            Scale::PortsTaken => openings::measure(bench, own, collector)?,
        }
    }
    Ok(())
}

impl<'net> Bench<'_, 'net> {
    fn arms(&self) -> impl Iterator<Item = Arm> {
        ARMS.into_iter().filter(|arm| self.plan.has_arm(*arm))
    }

    /// Gives each arm at each place a VM of its own.
    fn build<P: Copy, Site>(
        &self,
        vms: &'net [Vm],
        places: impl IntoIterator<Item = P>,
        build: impl Fn(Arm, P, &'net Vm) -> Result<Site>,
    ) -> Result<Vec<Site>> {
        let wanted = places.into_iter().flat_map(|place| self.arms().map(move |arm| (place, arm)));
        wanted.zip(vms).map(|((place, arm), vm)| build(arm, place, vm)).collect()
    }

    /// An outlet whose flows stand until the run ends, however long it takes.
    fn outlet(&self, arm: Arm, vm: &'net Vm) -> Result<Outlet<'net>> {
        vm.overlay_agent_toml(&format!("timeouts.datagram_replied_secs = {STANDING_SECS}"))?;
        for timeout in ["nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream"] {
            vm.namespace().sysctl(&format!("net/netfilter/{timeout}"), &STANDING_SECS.to_string())?;
        }
        Outlet::settled(self.net, arm, vm, self.plugins)
    }

    /// Puts the axis's loads on lanes, each at its place.
    fn run_loads(&self, scale: Scale, round: u16, lanes: &[(u32, Lane)], collector: &mut Collector) -> Result<()> {
        for load in scale.loads(self.plan.mode) {
            for (value, lane) in in_turns(lanes.to_vec(), round) {
                self.step(round, scale, value, lane.arm, load.name());
                let what = || format!("{}, {value} {}, {}", load.name(), scale.name(), lane.arm.title());
                let reading = load.run(&lane, self.cores, self.plan.duration).with_context(what)?;
                take(scale, value, lane.arm, reading, collector);
            }
        }
        Ok(())
    }

    fn step(&self, round: u16, scale: Scale, value: u32, arm: Arm, what: &str) {
        let rounds = self.plan.rounds;
        self.progress.step(&format!("round {}/{rounds}  {} {value}, {what}, {}", round + 1, scale.name(), arm.title()));
    }
}

/// The far tail is the machine's other work: along an axis it would only be long.
fn take(scale: Scale, value: u32, arm: Arm, reading: Reading, collector: &mut Collector) {
    for (figure, sample) in reading.values.into_iter().filter(|(figure, _)| *figure != Figure::TcpFarTail) {
        collector.figure(&scale.topic(), figure, Some(scale.at(value)), arm, sample);
    }
}
