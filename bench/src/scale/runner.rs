//! What every axis is measured with: its VMs, the loads that every place carries, and where samples go.

use std::path::Path as FilePath;

use anyhow::{Context, Result};
use azure_cni_tests::{Fabric, Station, Vm};

use crate::{
    collect::Collector,
    cores::Cores,
    figure::Figure,
    load::{self, reading::Reading},
    path::Path,
    plan::Plan,
    progress::Progress,
    rounds::alternating,
    subject::Scale,
    testbed::EdgeVm,
    variant::Variant,
};

/// The variants that are compared. Known service prefixes make no axis grow differently: to the VNet nothing changes, and through
/// source NAT the search for a port is the same code, at another hook.
pub(super) const VARIANTS: [Variant; 2] = [Variant::Ours, Variant::Bridge];

/// Longer than any run.
const STANDING_SECS: u32 = 86_400;

/// What every scale is measured with.
pub(crate) struct Runner<'run, 'net> {
    pub(crate) net: &'net Fabric,
    pub(crate) plugins: &'net FilePath,
    pub(crate) plan: &'run Plan,
    pub(crate) cores: Cores,
    pub(crate) progress: &'run Progress,
}

impl<'net> Runner<'_, 'net> {
    fn variants(&self) -> impl Iterator<Item = Variant> {
        VARIANTS.into_iter().filter(|variant| self.plan.has_variant(*variant))
    }

    /// Gives each variant at each place a VM of its own.
    pub(super) fn build<P: Copy, Site>(
        &self,
        vms: &'net [Vm],
        places: impl IntoIterator<Item = P>,
        build: impl Fn(Variant, P, &'net Vm) -> Result<Site>,
    ) -> Result<Vec<Site>> {
        let wanted = places.into_iter().flat_map(|place| self.variants().map(move |variant| (place, variant)));
        wanted.zip(vms).map(|((place, variant), vm)| build(variant, place, vm)).collect()
    }

    /// A VM at the edge, whose flows stand until the run ends, however long it takes. One pod may have all of them: MASQUERADE
    /// knows no shares either.
    pub(super) fn edge(&self, variant: Variant, vm: &'net Vm) -> Result<EdgeVm<'net>> {
        vm.overlay_agent_toml(&format!(
            "timeouts.datagram_exchange_secs = {STANDING_SECS}\ntimeouts.datagram_stream_secs = {STANDING_SECS}\n\
             snat.pod_port_share = 100\ndatapath.pod_flow_share = 100"
        ))?;
        for timeout in ["nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream"] {
            vm.namespace().sysctl(&format!("net/netfilter/{timeout}"), &STANDING_SECS.to_string())?;
        }
        EdgeVm::verified(self.net, variant, vm, self.plugins)
    }

    /// Puts the axis's loads on paths, each at its place.
    pub(super) fn run_loads(
        &self,
        scale: Scale,
        round: u16,
        paths: &[(u32, Path)],
        collector: &mut Collector,
    ) -> Result<()> {
        for kind in scale.loads(self.plan.mode) {
            for (value, path) in alternating(paths.to_vec(), round) {
                self.step(round, scale, value, path.variant, kind.name());
                let what = || format!("{}, {value} {}, {}", kind.name(), scale.name(), path.variant.title());
                let reading = load::run(*kind, &path, self.cores, self.plan.duration).with_context(what)?;
                take(scale, value, path.variant, reading, collector);
            }
        }
        Ok(())
    }

    pub(super) fn step(&self, round: u16, scale: Scale, value: u32, variant: Variant, what: &str) {
        let rounds = self.plan.rounds;
        self.progress.step(&format!(
            "round {}/{rounds}  {} {value}, {what}, {}",
            round + 1,
            scale.name(),
            variant.title()
        ));
    }
}

/// The far tail is the machine's other work: along an axis it would only be long.
pub(super) fn take(scale: Scale, value: u32, variant: Variant, reading: Reading, collector: &mut Collector) {
    for (figure, sample) in reading.values.into_iter().filter(|(figure, _)| *figure != Figure::TcpFarTail) {
        collector.figure(&scale.topic(), figure, Some(scale.at(value)), variant, sample);
    }
}
