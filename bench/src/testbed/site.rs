//! The VMs of one variant with their pods: two neighbours at the two ends of one wire, and one at the edge.

use std::{net::Ipv4Addr, path::Path as FilePath};

use anyhow::{Context, Result};
use azure_cni_tests::{Fabric, Station, Vm};

use super::{
    edge_vm::EdgeVm,
    lower_bound::LowerBound,
    pods::{Endpoint, attach},
    uplinks,
};
use crate::{path::Path, subject::PathKind, variant::Variant};

/// How many VMs of the network a variant has: two that are neighbours, and one at the edge.
pub(super) const VMS_OF_VARIANT: usize = 3;

pub(crate) struct Site<'net> {
    pub(super) variant: Variant,
    /// Two neighbours.
    vms: [&'net Vm; 2],
    /// Two pods on the first VM, and one on its neighbour.
    local: [Endpoint<'net>; 2],
    remote: Endpoint<'net>,
    pub(crate) edge: EdgeVm<'net>,
    /// What makes another variant of ours, if anything does.
    _lower_bound: Vec<LowerBound>,
}

impl<'net> Site<'net> {
    pub(super) fn build(
        net: &'net Fabric,
        variant: Variant,
        vms: [&'net Vm; VMS_OF_VARIANT],
        plugins: &'net FilePath,
    ) -> Result<Self> {
        let [near, far, exit] = vms;
        uplinks::join(net, near, far)?;
        let local = attach(variant, near, &["a", "b"], plugins)?;
        let mut remote = attach(variant, far, &["a", "b"], plugins)?;
        let edge = EdgeVm::build(net, variant, exit, plugins)?;
        let lower_bound = if variant == Variant::LowerBound {
            let at_the_wire = |vm, pods: &_, node| LowerBound::replace(vm, pods, node);
            vec![
                at_the_wire(near, &local.host_interfaces, None)?,
                at_the_wire(far, &remote.host_interfaces, None)?,
                at_the_wire(exit, &edge.host_interfaces, Some(uplinks::gateway(exit)?))?,
            ]
        } else {
            Vec::new()
        };
        let local = <[Endpoint; 2]>::try_from(local.pods).ok().context("two pods")?;
        Ok(Self { variant, vms: [near, far], local, remote: remote.pods.remove(0), edge, _lower_bound: lower_bound })
    }

    pub(super) fn vms(&self) -> [(Variant, &dyn Station); VMS_OF_VARIANT] {
        let [near, far] = self.vms;
        [near, far, self.edge.vm].map(|vm| -> (Variant, &dyn Station) { (self.variant, vm) })
    }

    pub(super) fn paths(&self) -> Vec<Path<'_>> {
        let Self { variant, vms: [near, _], local: [a, b], remote, edge, .. } = self;
        let (variant, pod, peered) = (*variant, a.address(), &edge.peered);
        let mut paths = vec![
            Path::between(variant, &**a, &**b),
            Path { variant, kind: PathKind::AcrossVms, from: &**a, to: &**remote, promised: pod },
            edge.to_internet(),
        ];
        if variant != Variant::LowerBound {
            let to = &*edge.pods[0];
            paths.push(Path { variant, kind: PathKind::FromOutside, from: peered, to, promised: peered.address() });
            // The VM takes the address that it has towards its pods.
            paths.push(Path {
                variant,
                kind: PathKind::FromHost,
                from: *near,
                to: &**a,
                promised: Ipv4Addr::UNSPECIFIED,
            });
        }
        paths
    }
}
