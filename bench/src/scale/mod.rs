//! Whether a packet costs the same as the node fills up: one thing grows, everything else stays.
//!
//! Ours beside the bridge, which is what users would have instead. All places of an axis are measured in each round.

mod openings;
mod pods;
mod spread;

use std::path::Path as FilePath;

use anyhow::Result;
use azure_cni_tests::Fabric;

use crate::{
    arm::Arm,
    collect::Collector,
    load::Cores,
    plan::Plan,
    progress::{Part, Progress},
    record::{At, Axis},
    testbed::Testbed,
};

/// The arms that are compared.
const ARMS: [Arm; 2] = [Arm::Ours, Arm::Bridge];
/// VMs that the fabric must have besides those of the lanes.
pub(crate) const VMS: usize = ARMS.len() * pods::MOST_PLACES;

/// Of its records.
const TOPIC: &str = "scale";

/// What grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    Pods,
    RemoteAddresses,
    Flows,
    PortsTaken,
}

impl Scale {
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
            Self::Pods => "UDP packets and TCP connections between two pods of a VM, by how many pods it has",
            Self::RemoteAddresses => "UDP packets to addresses of the VNet in turns, by how many they are",
            Self::Flows => "UDP packets of flows in turns, by how many they are",
            Self::PortsTaken => "first packets through source NAT, by how many ports to the destination are taken",
        }
    }

    /// Whether it takes the lanes' VM that has far ends at its wire.
    pub(crate) fn is_at_the_wire(self) -> bool {
        self != Self::Pods
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
    /// Of the VMs that are for [`Scale::Pods`].
    pub(crate) first_vm: usize,
    pub(crate) testbed: &'run Testbed<'net>,
    pub(crate) plugins: &'net FilePath,
    pub(crate) plan: &'run Plan,
    pub(crate) cores: Cores,
    pub(crate) progress: &'run Progress,
}

pub(crate) fn measure(bench: &Bench, collector: &mut Collector) -> Result<()> {
    bench.progress.begin(Part::Scale);
    for scale in bench.plan.scales() {
        match scale {
            Scale::Pods => pods::measure(bench, collector)?,
            Scale::RemoteAddresses => spread::over_addresses(bench, collector)?,
            Scale::Flows => spread::over_flows(bench, collector)?,
            Scale::PortsTaken => openings::measure(bench, collector)?,
        }
    }
    Ok(())
}

impl Bench<'_, '_> {
    fn arms(&self) -> impl Iterator<Item = Arm> {
        ARMS.into_iter().filter(|arm| self.plan.has_arm(*arm))
    }

    fn step(&self, round: u16, scale: Scale, value: u32, arm: Arm) {
        let rounds = self.plan.rounds;
        self.progress.step(&format!("round {}/{rounds}  {} {value}, {}", round + 1, scale.name(), arm.title()));
    }
}
