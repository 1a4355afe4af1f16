//! The VMs of one variant with their pods: two neighbours at the two ends of one wire, and one at the edge of the network.

use std::path::Path as FilePath;

use anyhow::{Context, Result};
use azure_cni_tests::{Fabric, Station, Vm};

use super::{
    edge_vm::EdgeVm,
    lower_bound::LowerBound,
    pods::{Endpoint, attach},
    uplinks,
};
use crate::{path::Path, subject::PathKind, variant::Variant};

/// How many VMs of the network a variant has: the one at the edge, and before it two neighbours, unless they would measure the same
/// again.
pub(super) const fn vms_of(variant: Variant) -> usize {
    match variant {
        // A destination in the VNet is decided on before services are asked about (`azure_cni_common::next_hop`). So this variant
        // cannot differ from a default installation on any path but the one to the Internet.
        Variant::OursServicesKnown => 1,
        _ => 3,
    }
}

pub(crate) struct Site<'net> {
    pub(super) variant: Variant,
    neighbours: Option<Neighbours<'net>>,
    pub(crate) edge: EdgeVm<'net>,
    /// The programs that make a lower bound of ours.
    _lower_bound: Vec<LowerBound>,
}

/// Two VMs at the two ends of one wire.
struct Neighbours<'net> {
    vms: [&'net Vm; 2],
    /// Two pods on the first VM, and one on the other.
    local: [Endpoint<'net>; 2],
    remote: Endpoint<'net>,
}

impl<'net> Site<'net> {
    /// `vms`: as many as [`vms_of`] says.
    pub(super) fn build(net: &'net Fabric, variant: Variant, vms: &'net [Vm], plugins: &'net FilePath) -> Result<Self> {
        let (edge_vm, others) = vms.split_last().context("a variant without VMs")?;
        let mut lower_bound = Vec::new();
        let mut redirect_only = |vm, pods: &_, gateway| -> Result<()> {
            if variant == Variant::LowerBound {
                lower_bound.push(LowerBound::replace(vm, pods, gateway)?);
            }
            Ok(())
        };
        let neighbours = match others {
            [near, far] => {
                uplinks::join(net, near, far)?;
                let local = attach(variant, near, &["a", "b"], plugins)?;
                let mut remote = attach(variant, far, &["a", "b"], plugins)?;
                redirect_only(near, &local.host_interfaces, None)?;
                redirect_only(far, &remote.host_interfaces, None)?;
                let local = <[Endpoint; 2]>::try_from(local.pods).ok().context("two pods")?;
                Some(Neighbours { vms: [near, far], local, remote: remote.pods.remove(0) })
            }
            _ => None,
        };
        let edge = EdgeVm::build(net, variant, edge_vm, plugins)?;
        redirect_only(edge_vm, &edge.host_interfaces, Some(uplinks::gateway(edge_vm)?))?;
        Ok(Self { variant, neighbours, edge, _lower_bound: lower_bound })
    }

    pub(super) fn vms(&self) -> Vec<(Variant, &dyn Station)> {
        let vms = self.neighbours.iter().flat_map(|neighbours| neighbours.vms).chain([self.edge.vm]);
        vms.map(|vm| -> (Variant, &dyn Station) { (self.variant, vm) }).collect()
    }

    pub(super) fn paths(&self) -> Vec<Path<'_>> {
        let Self { variant, edge, .. } = self;
        let variant = *variant;
        let mut paths = vec![edge.to_internet()];
        let Some(Neighbours { vms: [near, _], local: [a, b], remote }) = &self.neighbours else { return paths };
        paths.push(Path::between(variant, &**a, &**b));
        paths.push(Path { variant, kind: PathKind::AcrossVms, from: &**a, to: &**remote, promised: Some(a.address()) });
        if variant != Variant::LowerBound {
            let (peered, to) = (&edge.peered, &*edge.pods[0]);
            let promised = Some(peered.address());
            paths.push(Path { variant, kind: PathKind::FromOutside, from: peered, to, promised });
            paths.push(Path { variant, kind: PathKind::FromHost, from: *near, to: &**a, promised: None });
        }
        paths
    }
}
