//! All arms side by side: the same wires, the same far ends, the same settings.
//!
//! An arm has two VMs at the two ends of one wire, and a third whose wire ends at a host of the Internet. Before anything
//! is measured each lane proves that it is what it says: it carries TCP, and the far end sees the source address that the
//! path promises.

use std::{net::Ipv4Addr, path::Path as FilePath};

use anyhow::{Context, Result, ensure};
use azure_cni_tests::{
    Fabric, Pod, Station, Vm, Yardstick,
    probe::{self, EchoServer},
};

use crate::{
    calls,
    plan::{Arm, Path, Plan},
    reference::{BridgeNode, BridgedPod},
    uplinks::{self, InternetHost},
    wiring::{self, Wiring},
};

/// How many VMs the network must have.
pub(crate) const VMS: u8 = 6;

/// Which of them an arm has: two that are neighbours, and one at the Internet.
const OURS: [usize; 3] = [0, 1, 2];
const BRIDGE: [usize; 3] = [3, 4, 5];
/// Those of the network behind them: for CNI calls.
pub(crate) const SPARE: [usize; calls::VMS as usize] = [6, 7];

pub(crate) struct Testbed<'net> {
    bare: Option<Yardstick>,
    ours: Option<Site<'net, Pod<'net>>>,
    bridge: Option<Site<'net, BridgedPod>>,
}

/// One arm's VMs with their pods.
struct Site<'net, P> {
    vms: [&'net Vm; 3],
    /// Two pods on the first VM, one on its neighbour, one on the VM at the Internet.
    local: [P; 2],
    remote: P,
    outbound: P,
    internet: InternetHost,
}

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

impl<'net> Testbed<'net> {
    pub(crate) fn build(net: &'net Fabric, plan: &Plan, plugins: &'net FilePath) -> Result<Self> {
        let mut testbed = Self { bare: None, ours: None, bridge: None };
        if plan.loads.is_empty() {
            return Ok(testbed);
        }
        if plan.has(Arm::Bare) {
            testbed.bare = Some(Yardstick::beside(net)?);
        }
        if plan.has(Arm::Ours) {
            testbed.ours = Some(Site::build(net, OURS, |vm, pods| {
                vm.start_agent()?;
                pods.iter().map(|name| Ok(vm.add_pod(name)?)).collect()
            })?);
        }
        if plan.has(Arm::Bridge) {
            testbed.bridge = Some(Site::build(net, BRIDGE, |vm, pods| {
                let node = BridgeNode::prepare(vm, plugins)?;
                pods.iter().map(|name| node.add_pod(name)).collect()
            })?);
        }
        for lane in testbed.lanes() {
            settle(&lane).with_context(|| format!("{}, {}", lane.arm.title(), lane.path.title()))?;
        }
        Ok(testbed)
    }

    /// Every lane there is, arms of one path side by side.
    pub(crate) fn lanes(&self) -> Vec<Lane<'_>> {
        let mut lanes = Vec::new();
        if let Some(bare) = &self.bare {
            let (from, to) = (&bare.near, &bare.far);
            lanes.push(Lane { arm: Arm::Bare, path: Path::SameVm, from, to, promised: from.address() });
        }
        if let Some(site) = &self.ours {
            lanes.extend(site.lanes(Arm::Ours));
        }
        if let Some(site) = &self.bridge {
            lanes.extend(site.lanes(Arm::Bridge));
        }
        lanes.sort_by_key(|lane| (lane.path, lane.arm));
        lanes
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
        wiring::ensure_alike(&wirings)?;
        Ok(wirings)
    }

    /// The ends of all lanes, and the VMs in between.
    fn stations(&self) -> Vec<(Arm, &dyn Station)> {
        let vms_of = |arm, vms: Option<[&'net Vm; 3]>| {
            vms.into_iter().flatten().map(move |vm| -> (Arm, &dyn Station) { (arm, vm) })
        };
        let ends = self.lanes().into_iter().flat_map(|lane| [(lane.arm, lane.from), (lane.arm, lane.to)]);
        let ours = vms_of(Arm::Ours, self.ours.as_ref().map(|site| site.vms));
        let bridge = vms_of(Arm::Bridge, self.bridge.as_ref().map(|site| site.vms));
        ends.chain(ours).chain(bridge).collect()
    }
}

impl<'net, P: Station> Site<'net, P> {
    /// `attach` gives a VM pods of these names.
    fn build(net: &'net Fabric, vms: [usize; 3], attach: impl Fn(&'net Vm, &[&str]) -> Result<Vec<P>>) -> Result<Self> {
        let [near, far, exit] = vms.map(|index| net.vm(index));
        uplinks::join(net, near, far)?;
        let internet = InternetHost::beyond(net, exit)?;
        let one = |vm| -> Result<P> { Ok(attach(vm, &["a"])?.remove(0)) };
        let local = <[P; 2]>::try_from(attach(near, &["a", "b"])?).ok().context("two pods")?;
        Ok(Self { vms: [near, far, exit], local, remote: one(far)?, outbound: one(exit)?, internet })
    }

    fn lanes(&self, arm: Arm) -> [Lane<'_>; 3] {
        let Self { vms: [.., exit], local: [a, b], remote, outbound, internet } = self;
        let pod = a.address();
        [
            Lane { arm, path: Path::SameVm, from: a, to: b, promised: pod },
            Lane { arm, path: Path::AcrossVms, from: a, to: remote, promised: pod },
            Lane { arm, path: Path::Internet, from: outbound, to: internet, promised: exit.address() },
        ]
    }
}

/// Settings that all lanes share, and the proof that the lane is what it says.
fn settle(lane: &Lane) -> Result<()> {
    // A refused SYN is an error after three seconds instead of two minutes.
    lane.from.namespace().sysctl("net/ipv4/tcp_syn_retries", "1")?;
    let echo = EchoServer::start(lane.to)?;
    let seen = probe::tcp(lane.from, echo.address())?.source_seen.ip();
    ensure!(seen == lane.promised, "the far end sees {seen} instead of {}", lane.promised);
    Ok(())
}
