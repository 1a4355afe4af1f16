//! The ways to attach pods that are measured side by side.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A way to attach pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Variant {
    /// Two namespaces and a veth pair: what the machine can do
    Bare,
    /// The hops of azure-cni-ebpf, with programs that do nothing but redirect: the lower bound of what any eBPF data path costs
    LowerBound,
    /// azure-cni-ebpf as a default installation has it: agent, plugin and programs as shipped, no service prefixes configured
    Ours,
    /// azure-cni-ebpf with `routing.service_prefixes` set, so that packets to the Internet need not go up the host's stack
    OursServicesKnown,
    /// The reference bridge plugin, host-local, and MASQUERADE by iptables-nft for what leaves the VNet: what the seed of this
    /// project replaces
    Bridge,
    /// The reference ptp plugin (routed veth pairs), host-local, the same rules: what the platform's plugin does today in its
    /// transparent mode
    Ptp,
}

impl Variant {
    /// Those that a figure of ours is compared with, in the order of the report.
    pub(crate) const PEERS: [Self; 5] =
        [Self::Bare, Self::LowerBound, Self::OursServicesKnown, Self::Bridge, Self::Ptp];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Bare => "bare veth pair",
            Self::LowerBound => "redirect only",
            Self::Ours => "azure-cni-ebpf",
            Self::OursServicesKnown => "ebpf, services known",
            Self::Bridge => "bridge + iptables",
            Self::Ptp => "ptp + iptables",
        }
    }

    /// Whether it is azure-cni-ebpf, in whatever configuration.
    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Self::Ours | Self::OursServicesKnown)
    }

    /// Whether it is something that users would have instead, and not a measure of what is possible.
    pub(crate) fn is_reference(self) -> bool {
        matches!(self, Self::Bridge | Self::Ptp)
    }
}
