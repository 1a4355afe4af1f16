//! The ways to attach pods that are measured side by side.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A way to attach pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Variant {
    /// Two namespaces and a veth pair: what the machine can do
    Bare,
    /// The hops of azure-cni-ebpf, with programs that do nothing but redirect: what any eBPF data path can do
    LowerBound,
    /// azure-cni-ebpf: the agent, the plugin and the programs as they are shipped
    Ours,
    /// The reference bridge plugin, host-local, and MASQUERADE for what leaves the VNet
    Bridge,
    /// The same with iptables of the older kind
    BridgeLegacy,
    /// The reference ptp plugin (routed veth pairs), host-local, and MASQUERADE
    Ptp,
}

impl Variant {
    /// Those that a figure of ours is compared with, in the order of the report.
    pub(crate) const PEERS: [Self; 5] = [Self::Bare, Self::LowerBound, Self::Bridge, Self::BridgeLegacy, Self::Ptp];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Bare => "bare veth pair",
            Self::LowerBound => "redirect only",
            Self::Ours => "azure-cni-ebpf",
            Self::Bridge => "bridge + iptables",
            Self::BridgeLegacy => "bridge + legacy",
            Self::Ptp => "ptp + iptables",
        }
    }

    /// Whether it is something that users would have instead, and not a measure of what is possible.
    pub(crate) fn is_reference(self) -> bool {
        matches!(self, Self::Bridge | Self::BridgeLegacy | Self::Ptp)
    }
}
