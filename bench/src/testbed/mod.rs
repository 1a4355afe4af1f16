//! All arms side by side: the same wires, the same far ends, the same settings.
//!
//! An arm has two VMs at the two ends of one wire, and a third whose wire ends at hosts of the Internet and of a peered
//! network. Before anything is measured each lane proves that it is what it says: it carries TCP, and the far end sees the
//! source address that the path promises.

mod floor;
mod outlet;
mod reference;
mod uplinks;
mod wiring;

use std::{net::Ipv4Addr, path::Path as FilePath};

use anyhow::{Context, Result, ensure};
use azure_cni_tests::{
    Fabric, Pod, Station, Vm, Baseline,
    probe::{self, EchoServer},
};

use self::{floor::Floor, wiring::ensure_alike};
pub(crate) use self::{
    outlet::Outlet,
    reference::{Reference, ReferenceNode},
    uplinks::{FarEnd, REMOTE_ADDRESSES, remote_address},
    wiring::Wiring,
};
use crate::{
    arm::Arm,
    load::Load,
    plan::{Path, Plan, Topic},
};

/// How many VMs of the network an arm has: two that are neighbours, and one at the Internet.
const VMS_OF_ARM: usize = 3;
/// The arms that have VMs, and so which of the VMs.
const ARMS: [Arm; 5] = [Arm::Ours, Arm::Floor, Arm::Bridge, Arm::BridgeLegacy, Arm::Ptp];
/// How many VMs the network must have for lanes.
pub(crate) const VMS: usize = ARMS.len() * VMS_OF_ARM;

/// What lanes run on.
pub(crate) struct Testbed<'net> {
    bare: Option<Baseline>,
    sites: Vec<Site<'net>>,
}

/// One arm's VMs with their pods.
pub(crate) struct Site<'net> {
    arm: Arm,
    /// Two neighbours.
    vms: [&'net Vm; 2],
    /// Two pods on the first VM, and one on its neighbour.
    local: [Endpoint<'net>; 2],
    remote: Endpoint<'net>,
    pub(crate) outlet: Outlet<'net>,
    /// What makes another arm of ours, if anything does.
    _floor: Vec<Floor>,
}

pub(crate) type Endpoint<'net> = Box<dyn Station + 'net>;

/// One arm's way along a path.
#[derive(Clone, Copy)]
pub(crate) struct Lane<'bed> {
    pub(crate) arm: Arm,
    pub(crate) path: Path,
    pub(crate) from: &'bed dyn Station,
    pub(crate) to: &'bed dyn Station,
    /// The source address that the far end must see.
    promised: Ipv4Addr,
}

impl<'bed> Lane<'bed> {
    /// Between two pods of one VM.
    pub(crate) fn between(arm: Arm, from: &'bed dyn Station, to: &'bed dyn Station) -> Self {
        Self { arm, path: Path::SameVm, from, to, promised: from.address() }
    }
}

impl<'net> Testbed<'net> {
    /// Only what the plan has a use for.
    pub(crate) fn build(net: &'net Fabric, plan: &Plan, plugins: &'net FilePath) -> Result<Self> {
        let has_lanes = !plan.loads.is_empty();
        let mut testbed = Self { bare: None, sites: Vec::new() };
        if has_lanes && plan.has_arm(Arm::Bare) {
            testbed.bare = Some(Baseline::beside(net)?);
        }
        for (number, arm) in ARMS.into_iter().enumerate() {
            let is_restarted = arm == Arm::Ours && plan.has(Topic::Restart);
            if plan.has_arm(arm) && (has_lanes || is_restarted) {
                let vms = std::array::from_fn(|index| net.vm(number * VMS_OF_ARM + index));
                let site = Site::build(net, arm, vms, plugins);
                testbed.sites.push(site.with_context(|| format!("set up {}", arm.title()))?);
            }
        }
        for lane in testbed.lanes() {
            settle(&lane).with_context(|| format!("{}, {}", lane.arm.title(), lane.path.title()))?;
        }
        Ok(testbed)
    }

    /// The lanes that a load is put on, arms of one path side by side; and the bare pair, which all of them are compared with.
    pub(crate) fn lanes_of(&self, plan: &Plan, load: Load) -> Vec<Lane<'_>> {
        let paths: Vec<Path> =
            plan.loads.iter().filter(|(_, planned)| *planned == load).map(|(path, _)| *path).collect();
        let wanted = |lane: &Lane| {
            let is_asked_for = paths.contains(&lane.path) || (lane.arm == Arm::Bare && !paths.is_empty());
            is_asked_for && plan.is_measured(lane.path, load, lane.arm)
        };
        self.lanes().into_iter().filter(wanted).collect()
    }

    fn lanes(&self) -> Vec<Lane<'_>> {
        let mut lanes = Vec::new();
        if let Some(bare) = &self.bare {
            let (from, to) = (&bare.near, &bare.far);
            lanes.push(Lane::between(Arm::Bare, from, to));
        }
        lanes.extend(self.sites.iter().flat_map(Site::lanes));
        lanes.sort_by_key(|lane| (lane.path, lane.arm));
        lanes
    }

    /// An arm's VMs.
    pub(crate) fn site(&self, arm: Arm) -> Option<&Site<'net>> {
        self.sites.iter().find(|site| site.arm == arm)
    }

    /// Interfaces of all lanes, which must be alike.
    pub(crate) fn check_wirings(&self) -> Result<Vec<Wiring>> {
        let mut wirings = Vec::new();
        for (arm, station) in self.stations() {
            let wiring = Wiring::of(arm, station)?;
            if !wirings.contains(&wiring) {
                wirings.push(wiring);
            }
        }
        ensure_alike(&wirings)?;
        Ok(wirings)
    }

    /// The ends of all lanes, and the VMs in between.
    fn stations(&self) -> Vec<(Arm, &dyn Station)> {
        let ends = self.lanes().into_iter().flat_map(|lane| [(lane.arm, lane.from), (lane.arm, lane.to)]);
        let vms = self.sites.iter().flat_map(Site::vms);
        ends.chain(vms).collect()
    }
}

impl<'net> Site<'net> {
    fn build(net: &'net Fabric, arm: Arm, vms: [&'net Vm; VMS_OF_ARM], plugins: &'net FilePath) -> Result<Self> {
        let [near, far, exit] = vms;
        uplinks::join(net, near, far)?;
        let local = attach(arm, near, &["a", "b"], plugins)?;
        let mut remote = attach(arm, far, &["a", "b"], plugins)?;
        let outlet = Outlet::build(net, arm, exit, plugins)?;
        let floor = if arm == Arm::Floor {
            let at_the_wire = |vm, pods: &_, node| Floor::replace(vm, pods, node);
            vec![
                at_the_wire(near, &local.host_interfaces, None)?,
                at_the_wire(far, &remote.host_interfaces, None)?,
                at_the_wire(exit, &outlet.host_interfaces, Some(uplinks::gateway(exit)?))?,
            ]
        } else {
            Vec::new()
        };
        let local = <[Endpoint; 2]>::try_from(local.pods).ok().context("two pods")?;
        Ok(Self { arm, vms: [near, far], local, remote: remote.pods.remove(0), outlet, _floor: floor })
    }

    fn vms(&self) -> [(Arm, &dyn Station); VMS_OF_ARM] {
        let [near, far] = self.vms;
        [near, far, self.outlet.vm].map(|vm| -> (Arm, &dyn Station) { (self.arm, vm) })
    }

    fn lanes(&self) -> Vec<Lane<'_>> {
        let Self { arm, vms: [near, _], local: [a, b], remote, outlet, .. } = self;
        let (arm, pod, peered) = (*arm, a.address(), &outlet.peered);
        let mut lanes = vec![
            Lane::between(arm, &**a, &**b),
            Lane { arm, path: Path::AcrossVms, from: &**a, to: &**remote, promised: pod },
            outlet.to_internet(),
        ];
        if arm != Arm::Floor {
            let to = &*outlet.pods[0];
            lanes.push(Lane { arm, path: Path::FromOutside, from: peered, to, promised: peered.address() });
            // The VM takes the address that it has towards its pods.
            lanes.push(Lane { arm, path: Path::FromHost, from: *near, to: &**a, promised: Ipv4Addr::UNSPECIFIED });
        }
        lanes
    }
}

/// Pods of one VM, and where they end on the VM's side if that is one interface for each.
pub(crate) struct Attached<'net> {
    pub(crate) pods: Vec<Endpoint<'net>>,
    /// Of each pod: its address, and its interface on the VM's side.
    host_interfaces: Vec<(Ipv4Addr, String)>,
}

/// Gives a VM pods of these names.
pub(crate) fn attach<'net>(arm: Arm, vm: &'net Vm, names: &[&str], plugins: &'net FilePath) -> Result<Attached<'net>> {
    let Some(reference) = Reference::of(arm) else {
        vm.start_agent()?;
        let pods = names.iter().map(|name| Ok(vm.add_pod(name)?)).collect::<Result<Vec<Pod>>>()?;
        let host_interfaces = pods.iter().map(|pod| (pod.address(), pod.host_interface().to_owned())).collect();
        return Ok(Attached { pods: pods.into_iter().map(|pod| Box::new(pod) as Endpoint).collect(), host_interfaces });
    };
    let node = ReferenceNode::prepare(vm, plugins, reference)?;
    let pods = names.iter().map(|name| Ok(Box::new(node.add_pod(name)?) as Endpoint)).collect::<Result<_>>()?;
    Ok(Attached { pods, host_interfaces: Vec::new() })
}

/// Settings that all lanes share, and the proof that the lane is what it says.
fn settle(lane: &Lane) -> Result<()> {
    // A refused SYN is an error after three seconds instead of two minutes.
    lane.from.namespace().sysctl("net/ipv4/tcp_syn_retries", "1")?;
    let echo = EchoServer::start(lane.to)?;
    let seen = probe::tcp(lane.from, echo.address())?.source_seen.ip();
    ensure!(
        lane.promised.is_unspecified() || seen == lane.promised,
        "the far end sees {seen} instead of {}",
        lane.promised
    );
    Ok(())
}
