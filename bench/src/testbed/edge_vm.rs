//! A VM with two pods, alone at one end of a wire: at the other are a host of the Internet and one of a peered network.

use std::{net::Ipv4Addr, path::Path as FilePath};

use anyhow::{Context, Result};
use azure_cni_tests::{Fabric, Station, Vm};

use super::{
    pods::{Attached, Endpoint, attach},
    uplinks::{self, FarEnd},
    verify::verify,
};
use crate::{path::Path, subject::PathKind, variant::Variant};

pub(crate) struct EdgeVm<'net> {
    pub(crate) variant: Variant,
    pub(crate) vm: &'net Vm,
    pub(crate) pods: Vec<Endpoint<'net>>,
    /// Where the pods end on the VM's side.
    pub(super) host_interfaces: Vec<(Ipv4Addr, String)>,
    pub(crate) internet: FarEnd,
    pub(crate) peered: FarEnd,
}

impl<'net> EdgeVm<'net> {
    pub(super) fn build(net: &'net Fabric, variant: Variant, vm: &'net Vm, plugins: &'net FilePath) -> Result<Self> {
        let (internet, peered) = uplinks::beyond(net, vm)?;
        let Attached { pods, host_interfaces } = attach(variant, vm, &["a", "b"], plugins)?;
        Ok(Self { variant, vm, pods, host_interfaces, internet, peered })
    }

    /// One whose paths have proved that they are what they say.
    pub(crate) fn verified(net: &'net Fabric, variant: Variant, vm: &'net Vm, plugins: &'net FilePath) -> Result<Self> {
        let edge = Self::build(net, variant, vm, plugins).with_context(|| format!("set up {}", variant.title()))?;
        for path in [edge.to_internet(), edge.to_peered()] {
            verify(&path).with_context(|| format!("{}, {}", variant.title(), path.kind.title()))?;
        }
        Ok(edge)
    }

    /// From the first pod, behind the VM's address.
    pub(crate) fn to_internet(&self) -> Path<'_> {
        let Self { variant, vm, pods, internet, .. } = self;
        Path {
            variant: *variant,
            kind: PathKind::Internet,
            from: &*pods[0],
            to: internet,
            promised: Some(vm.address()),
        }
    }

    /// From the first pod, with its own address, as to another VM.
    pub(crate) fn to_peered(&self) -> Path<'_> {
        let Self { variant, pods, peered, .. } = self;
        Path {
            variant: *variant,
            kind: PathKind::AcrossVms,
            from: &*pods[0],
            to: peered,
            promised: Some(pods[0].address()),
        }
    }
}
