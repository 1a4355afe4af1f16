//! All variants side by side: the same wires, the same far ends, the same settings.
//!
//! A variant has two VMs at the two ends of one wire, and a third whose wire ends at hosts of the Internet and of a peered
//! network. Before anything is measured each path proves that it is what it says: it carries TCP, and the far end sees the
//! source address that the path promises.

mod edge_vm;
mod lower_bound;
mod reference;
mod uplinks;
mod wiring;

use std::{net::Ipv4Addr, path::Path as FilePath};

use anyhow::{Context, Result, ensure};
use azure_cni_tests::{
    Baseline, Fabric, Pod, Station, Vm,
    probe::{self, EchoServer},
};

pub(crate) use self::{
    edge_vm::EdgeVm,
    reference::{Reference, ReferenceNode},
    uplinks::{FarEnd, REMOTE_ADDRESSES, remote_address},
    wiring::Wiring,
};
use self::{lower_bound::LowerBound, wiring::ensure_identical};
use crate::{
    load::Load,
    plan::{PathKind, Plan, Topic},
    variant::Variant,
};

/// How many VMs of the network a variant has: two that are neighbours, and one at the Internet.
const VMS_OF_VARIANT: usize = 3;
/// The variants that have VMs, and so which of the VMs.
const VARIANTS: [Variant; 5] =
    [Variant::Ours, Variant::LowerBound, Variant::Bridge, Variant::BridgeLegacy, Variant::Ptp];
/// How many VMs the network must have for paths.
pub(crate) const VMS: usize = VARIANTS.len() * VMS_OF_VARIANT;

/// What paths run on.
pub(crate) struct Testbed<'net> {
    bare: Option<Baseline>,
    sites: Vec<Site<'net>>,
}

/// One variant's VMs with their pods.
pub(crate) struct Site<'net> {
    variant: Variant,
    /// Two neighbours.
    vms: [&'net Vm; 2],
    /// Two pods on the first VM, and one on its neighbour.
    local: [Endpoint<'net>; 2],
    remote: Endpoint<'net>,
    pub(crate) edge: EdgeVm<'net>,
    /// What makes another variant of ours, if anything does.
    _lower_bound: Vec<LowerBound>,
}

pub(crate) type Endpoint<'net> = Box<dyn Station + 'net>;

/// One variant's way along a path.
#[derive(Clone, Copy)]
pub(crate) struct Path<'bed> {
    pub(crate) variant: Variant,
    pub(crate) kind: PathKind,
    pub(crate) from: &'bed dyn Station,
    pub(crate) to: &'bed dyn Station,
    /// The source address that the far end must see.
    promised: Ipv4Addr,
}

impl<'bed> Path<'bed> {
    /// Between two pods of one VM.
    pub(crate) fn between(variant: Variant, from: &'bed dyn Station, to: &'bed dyn Station) -> Self {
        Self { variant, kind: PathKind::SameVm, from, to, promised: from.address() }
    }
}

impl<'net> Testbed<'net> {
    /// Only what the plan has a use for.
    pub(crate) fn build(net: &'net Fabric, plan: &Plan, plugins: &'net FilePath) -> Result<Self> {
        let has_paths = !plan.loads.is_empty();
        let mut testbed = Self { bare: None, sites: Vec::new() };
        if has_paths && plan.has_variant(Variant::Bare) {
            testbed.bare = Some(Baseline::beside(net)?);
        }
        for (number, variant) in VARIANTS.into_iter().enumerate() {
            let is_restarted = variant == Variant::Ours && plan.has(Topic::Restart);
            if plan.has_variant(variant) && (has_paths || is_restarted) {
                let vms = std::array::from_fn(|index| net.vm(number * VMS_OF_VARIANT + index));
                let site = Site::build(net, variant, vms, plugins);
                testbed.sites.push(site.with_context(|| format!("set up {}", variant.title()))?);
            }
        }
        for path in testbed.paths() {
            verify(&path).with_context(|| format!("{}, {}", path.variant.title(), path.kind.title()))?;
        }
        Ok(testbed)
    }

    /// The paths that a load is put on, variants of one path side by side; and the bare pair, which all of them are compared with.
    pub(crate) fn paths_of(&self, plan: &Plan, load: Load) -> Vec<Path<'_>> {
        let paths: Vec<PathKind> =
            plan.loads.iter().filter(|(_, planned)| *planned == load).map(|(path, _)| *path).collect();
        let wanted = |path: &Path| {
            let is_asked_for = paths.contains(&path.kind) || (path.variant == Variant::Bare && !paths.is_empty());
            is_asked_for && plan.is_measured(path.kind, load, path.variant)
        };
        self.paths().into_iter().filter(wanted).collect()
    }

    fn paths(&self) -> Vec<Path<'_>> {
        let mut paths = Vec::new();
        if let Some(bare) = &self.bare {
            let (from, to) = (&bare.near, &bare.far);
            paths.push(Path::between(Variant::Bare, from, to));
        }
        paths.extend(self.sites.iter().flat_map(Site::paths));
        paths.sort_by_key(|path| (path.kind, path.variant));
        paths
    }

    /// A variant's VMs.
    pub(crate) fn site(&self, variant: Variant) -> Option<&Site<'net>> {
        self.sites.iter().find(|site| site.variant == variant)
    }

    /// Interfaces of all paths, which must be alike.
    pub(crate) fn check_wirings(&self) -> Result<Vec<Wiring>> {
        let mut wirings = Vec::new();
        for (variant, station) in self.stations() {
            let wiring = Wiring::of(variant, station)?;
            if !wirings.contains(&wiring) {
                wirings.push(wiring);
            }
        }
        ensure_identical(&wirings)?;
        Ok(wirings)
    }

    /// The ends of all paths, and the VMs in between.
    fn stations(&self) -> Vec<(Variant, &dyn Station)> {
        let ends = self.paths().into_iter().flat_map(|path| [(path.variant, path.from), (path.variant, path.to)]);
        let vms = self.sites.iter().flat_map(Site::vms);
        ends.chain(vms).collect()
    }
}

impl<'net> Site<'net> {
    fn build(
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

    fn vms(&self) -> [(Variant, &dyn Station); VMS_OF_VARIANT] {
        let [near, far] = self.vms;
        [near, far, self.edge.vm].map(|vm| -> (Variant, &dyn Station) { (self.variant, vm) })
    }

    fn paths(&self) -> Vec<Path<'_>> {
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

/// Pods of one VM, and where they end on the VM's side if that is one interface for each.
pub(crate) struct Attached<'net> {
    pub(crate) pods: Vec<Endpoint<'net>>,
    /// Of each pod: its address, and its interface on the VM's side.
    host_interfaces: Vec<(Ipv4Addr, String)>,
}

/// Gives a VM pods of these names.
pub(crate) fn attach<'net>(
    variant: Variant,
    vm: &'net Vm,
    names: &[&str],
    plugins: &'net FilePath,
) -> Result<Attached<'net>> {
    let Some(reference) = Reference::of(variant) else {
        vm.start_agent()?;
        let pods = names.iter().map(|name| Ok(vm.add_pod(name)?)).collect::<Result<Vec<Pod>>>()?;
        let host_interfaces = pods.iter().map(|pod| (pod.address(), pod.host_interface().to_owned())).collect();
        return Ok(Attached { pods: pods.into_iter().map(|pod| Box::new(pod) as Endpoint).collect(), host_interfaces });
    };
    let node = ReferenceNode::prepare(vm, plugins, reference)?;
    let pods = names.iter().map(|name| Ok(Box::new(node.add_pod(name)?) as Endpoint)).collect::<Result<_>>()?;
    Ok(Attached { pods, host_interfaces: Vec::new() })
}

/// Settings that all paths share, and the proof that the path is what it says.
fn verify(path: &Path) -> Result<()> {
    // A refused SYN is an error after three seconds instead of two minutes.
    path.from.namespace().sysctl("net/ipv4/tcp_syn_retries", "1")?;
    let echo = EchoServer::start(path.to)?;
    let seen = probe::tcp(path.from, echo.address())?.source_seen.ip();
    ensure!(
        path.promised.is_unspecified() || seen == path.promised,
        "the far end sees {seen} instead of {}",
        path.promised
    );
    Ok(())
}
