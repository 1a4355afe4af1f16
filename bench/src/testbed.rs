//! All arms in one network: the same router, the same far ends, the same settings.
//!
//! Before anything is measured each lane proves that it is what it says: it carries TCP, and the far end sees the source
//! address that the path promises.

use std::{net::Ipv4Addr, path::Path as FilePath};

use anyhow::{Context, Result, ensure};
use azure_cni_tests::{
    Fabric, Pod, Station, Yardstick,
    probe::{self, EchoServer},
};

use crate::{
    plan::{Arm, Path, Plan},
    reference::{BridgeNode, BridgedPod},
    wiring::{self, Wiring},
};

/// Which VMs of the network an arm has.
const OURS: [usize; 2] = [0, 1];
const BRIDGE: [usize; 2] = [2, 3];

/// Pods of every arm: two on the first VM, one on the second.
pub(crate) struct Testbed<'net> {
    net: &'net Fabric,
    bare: Option<Yardstick>,
    ours: Option<[Pod<'net>; 3]>,
    bridge: Option<[BridgedPod; 3]>,
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
        let mut testbed = Self { net, bare: None, ours: None, bridge: None };
        if plan.loads.is_empty() {
            return Ok(testbed);
        }
        if plan.has(Arm::Bare) {
            testbed.bare = Some(Yardstick::beside(net)?);
        }
        if plan.has(Arm::Ours) {
            let [near, far] = OURS.map(|index| net.vm(index));
            near.start_agent()?;
            far.start_agent()?;
            testbed.ours = Some([near.add_pod("a")?, near.add_pod("b")?, far.add_pod("a")?]);
        }
        if plan.has(Arm::Bridge) {
            testbed.bridge = Some(bridged(net, plugins)?);
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
        if let Some([a, b, remote]) = &self.ours {
            lanes.extend(self.pod_lanes(Arm::Ours, self.net.vm(OURS[0]), [a, b, remote]));
        }
        if let Some([a, b, remote]) = &self.bridge {
            lanes.extend(self.pod_lanes(Arm::Bridge, self.net.vm(BRIDGE[0]), [a, b, remote]));
        }
        lanes.sort_by_key(|lane| (lane.path, lane.arm));
        lanes
    }

    /// Interfaces of all lanes, which must be alike.
    pub(crate) fn check_wirings(&self) -> Result<Vec<Wiring>> {
        let mut wirings = Vec::new();
        for lane in self.lanes() {
            for station in [lane.from, lane.to] {
                let wiring = Wiring::of(lane.arm, station)?;
                if !wirings.contains(&wiring) {
                    wirings.push(wiring);
                }
            }
        }
        wiring::ensure_alike(&wirings)?;
        Ok(wirings)
    }

    fn pod_lanes<'bed>(&'bed self, arm: Arm, vm: &dyn Station, pods: [&'bed dyn Station; 3]) -> [Lane<'bed>; 3] {
        let [a, b, remote] = pods;
        let promised = a.address();
        [
            Lane { arm, path: Path::SameVm, from: a, to: b, promised },
            Lane { arm, path: Path::AcrossVms, from: a, to: remote, promised },
            Lane { arm, path: Path::Internet, from: a, to: self.net.internet(), promised: vm.address() },
        ]
    }
}

fn bridged(net: &Fabric, plugins: &FilePath) -> Result<[BridgedPod; 3]> {
    let near = BridgeNode::prepare(net.vm(BRIDGE[0]), plugins)?;
    let far = BridgeNode::prepare(net.vm(BRIDGE[1]), plugins)?;
    Ok([near.add_pod("a")?, near.add_pod("b")?, far.add_pod("a")?])
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
