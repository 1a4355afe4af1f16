//! A VM with two pods, alone at one end of a wire: at the other are a host of the Internet and one of a peered network.

use std::{net::Ipv4Addr, path::Path as FilePath};

use anyhow::{Context, Result};
use azure_cni_tests::{Fabric, Station, Vm};

use super::{Attached, Endpoint, Lane, attach, settle, uplinks};
use crate::{arm::Arm, plan::Path, testbed::FarEnd};

pub(crate) struct Outlet<'net> {
    pub(crate) arm: Arm,
    pub(crate) vm: &'net Vm,
    pub(crate) pods: Vec<Endpoint<'net>>,
    /// Where the pods end on the VM's side.
    pub(super) host_interfaces: Vec<(Ipv4Addr, String)>,
    pub(crate) internet: FarEnd,
    pub(crate) peered: FarEnd,
}

impl<'net> Outlet<'net> {
    pub(super) fn build(net: &'net Fabric, arm: Arm, vm: &'net Vm, plugins: &'net FilePath) -> Result<Self> {
        let (internet, peered) = uplinks::beyond(net, vm)?;
        let Attached { pods, host_interfaces } = attach(arm, vm, &["a", "b"], plugins)?;
        Ok(Self { arm, vm, pods, host_interfaces, internet, peered })
    }

    /// One whose lanes have proved that they are what they say.
    pub(crate) fn settled(net: &'net Fabric, arm: Arm, vm: &'net Vm, plugins: &'net FilePath) -> Result<Self> {
        let outlet = Self::build(net, arm, vm, plugins).with_context(|| format!("set up {}", arm.title()))?;
        for lane in [outlet.to_internet(), outlet.to_peered()] {
            settle(&lane).with_context(|| format!("{}, {}", arm.title(), lane.path.title()))?;
        }
        Ok(outlet)
    }

    /// From the first pod, behind the VM's address.
    pub(crate) fn to_internet(&self) -> Lane<'_> {
        let Self { arm, vm, pods, internet, .. } = self;
        Lane { arm: *arm, path: Path::Internet, from: &*pods[0], to: internet, promised: vm.address() }
    }

    /// From the first pod, with its own address, as to another VM.
    pub(crate) fn to_peered(&self) -> Lane<'_> {
        let Self { arm, pods, peered, .. } = self;
        Lane { arm: *arm, path: Path::AcrossVms, from: &*pods[0], to: peered, promised: pods[0].address() }
    }
}
