//! Whether a packet, a connection and a round trip cost the same as the node fills up: one thing grows, everything else stays.
//!
//! Ours beside the bridge, which is what users would have instead. Each place of an axis has VMs of its own, so that what stands in
//! their tables is its own; all places are measured in each round.

mod pods;
mod ports_taken;
mod spread;

use std::path::Path as FilePath;

use anyhow::{Context, Result};
use azure_cni_tests::{Fabric, Station, Vm};

use crate::{
    collect::Collector,
    figure::Figure,
    load::{Cores, Load, Reading},
    plan::{Mode, Plan},
    progress::{Part, Progress},
    record::{At, Axis},
    rounds::alternating,
    testbed::{EdgeVm, Path},
    variant::Variant,
};

/// The variants that are compared.
const VARIANTS: [Variant; 2] = [Variant::Ours, Variant::Bridge];

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
    /// How many variants on how many places.
    pub(crate) fn vms(self) -> usize {
        let places = match self {
            Self::Pods => pods::MAX_PLACES,
            Self::RemoteAddresses | Self::Flows => spread::PLACES,
            Self::PortsTaken => ports_taken::PLACES.len(),
        };
        places * VARIANTS.len()
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
            Scale::PortsTaken => ports_taken::measure(bench, own, collector)?,
        }
    }
    Ok(())
}

impl<'net> Bench<'_, 'net> {
    fn variants(&self) -> impl Iterator<Item = Variant> {
        VARIANTS.into_iter().filter(|variant| self.plan.has_variant(*variant))
    }

    /// Gives each variant at each place a VM of its own.
    fn build<P: Copy, Site>(
        &self,
        vms: &'net [Vm],
        places: impl IntoIterator<Item = P>,
        build: impl Fn(Variant, P, &'net Vm) -> Result<Site>,
    ) -> Result<Vec<Site>> {
        let wanted = places.into_iter().flat_map(|place| self.variants().map(move |variant| (place, variant)));
        wanted.zip(vms).map(|((place, variant), vm)| build(variant, place, vm)).collect()
    }

    /// A VM at the edge, whose flows stand until the run ends, however long it takes.
    fn edge(&self, variant: Variant, vm: &'net Vm) -> Result<EdgeVm<'net>> {
        vm.overlay_agent_toml(&format!("timeouts.datagram_replied_secs = {STANDING_SECS}"))?;
        for timeout in ["nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream"] {
            vm.namespace().sysctl(&format!("net/netfilter/{timeout}"), &STANDING_SECS.to_string())?;
        }
        EdgeVm::verified(self.net, variant, vm, self.plugins)
    }

    /// Puts the axis's loads on paths, each at its place.
    fn run_loads(&self, scale: Scale, round: u16, paths: &[(u32, Path)], collector: &mut Collector) -> Result<()> {
        for load in scale.loads(self.plan.mode) {
            for (value, path) in alternating(paths.to_vec(), round) {
                self.step(round, scale, value, path.variant, load.name());
                let what = || format!("{}, {value} {}, {}", load.name(), scale.name(), path.variant.title());
                let reading = load.run(&path, self.cores, self.plan.duration).with_context(what)?;
                take(scale, value, path.variant, reading, collector);
            }
        }
        Ok(())
    }

    fn step(&self, round: u16, scale: Scale, value: u32, variant: Variant, what: &str) {
        let rounds = self.plan.rounds;
        self.progress.step(&format!(
            "round {}/{rounds}  {} {value}, {what}, {}",
            round + 1,
            scale.name(),
            variant.title()
        ));
    }
}

/// The far tail is the machine's other work: along an axis it would only be long.
fn take(scale: Scale, value: u32, variant: Variant, reading: Reading, collector: &mut Collector) {
    for (figure, sample) in reading.values.into_iter().filter(|(figure, _)| *figure != Figure::TcpFarTail) {
        collector.figure(&scale.topic(), figure, Some(scale.at(value)), variant, sample);
    }
}
