//! All variants side by side: the same wires, the same far ends, the same settings.
//!
//! Every variant has VMs of its own. Before anything is measured each path proves that it is what it says: it carries TCP, and the
//! far end sees the source address that the path promises.

mod edge_vm;
mod lower_bound;
mod pods;
mod reference;
mod site;
mod uplinks;
mod verify;
mod wiring;

use std::path::Path as FilePath;

use anyhow::{Context, Result};
use azure_cni_tests::{Baseline, Fabric, Station};

pub(crate) use self::{
    edge_vm::EdgeVm,
    pods::{Endpoint, attach},
    reference::{Reference, ReferenceNode},
    uplinks::{REMOTE_ADDRESSES, remote_address},
    wiring::Wiring,
};
use self::{
    site::{Site, vms_of},
    verify::verify,
    wiring::ensure_identical,
};
use crate::{
    path::Path,
    plan::Plan,
    subject::{LoadKind, PathKind, Topic},
    variant::Variant,
};

/// The variants that have VMs.
const VARIANTS: [Variant; 5] =
    [Variant::Ours, Variant::OursServicesKnown, Variant::LowerBound, Variant::Bridge, Variant::Ptp];

/// How many VMs the network must have for a plan's paths.
pub(crate) fn vms(plan: &Plan) -> usize {
    variants(plan).map(vms_of).sum()
}

/// Those that the plan has a use for.
fn variants(plan: &Plan) -> impl Iterator<Item = Variant> {
    VARIANTS.into_iter().filter(|variant| {
        let is_restarted = *variant == Variant::Ours && plan.has_variant(*variant) && plan.has(Topic::Restart);
        is_restarted || plan.loads.iter().any(|(path, load)| plan.is_measured(*path, *load, *variant))
    })
}

/// What paths run on.
pub(crate) struct Testbed<'net> {
    bare: Option<Baseline>,
    sites: Vec<Site<'net>>,
}

impl<'net> Testbed<'net> {
    /// Only what the plan has a use for.
    pub(crate) fn build(net: &'net Fabric, plan: &Plan, plugins: &'net FilePath) -> Result<Self> {
        let mut testbed = Self { bare: None, sites: Vec::new() };
        if !plan.loads.is_empty() && plan.has_variant(Variant::Bare) {
            testbed.bare = Some(Baseline::beside(net)?);
        }
        let mut vms = net.vms();
        for variant in variants(plan) {
            let own = vms.split_off(..vms_of(variant)).context("too few VMs for the paths")?;
            let site = Site::build(net, variant, own, plugins);
            testbed.sites.push(site.with_context(|| format!("set up {}", variant.title()))?);
        }
        for path in testbed.paths() {
            verify(&path).with_context(|| format!("{}, {}", path.variant.title(), path.kind.title()))?;
        }
        Ok(testbed)
    }

    /// The paths that a load is put on, variants of one path side by side; and the bare pair, which all of them are compared with.
    pub(crate) fn paths_of(&self, plan: &Plan, load: LoadKind) -> Vec<Path<'_>> {
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

    /// Interfaces of all paths, which must be identical.
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
