//! What rules of the node translate, by kube-proxy or by whom ever: addresses of services.

use std::collections::BTreeSet;
use std::io;

use ipnet::IpNet;

use super::destinations::RulesError;
use super::{iptables, nftables};

/// Destinations that a packet may have before it is routed, and that rules do something with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceRules {
    /// With those of iptables-nft.
    pub nftables: BTreeSet<IpNet>,
    /// Of the legacy iptables.
    pub iptables: BTreeSet<IpNet>,
}

/// What tells for little whether rules have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleMarks {
    nftables: Option<u32>,
    iptables: Vec<iptables::Mark>,
}

impl ServiceRules {
    /// Of the calling thread's namespace. Blocks for some exchanges with the kernel.
    pub fn read() -> Result<Self, RulesError> {
        Ok(Self { nftables: nftables::translated()?, iptables: iptables::translated()? })
    }

    pub fn destinations(&self) -> impl Iterator<Item = &IpNet> {
        self.nftables.union(&self.iptables)
    }
}

impl RuleMarks {
    /// Of the calling thread's namespace.
    pub fn read() -> io::Result<Self> {
        Ok(Self { nftables: nftables::generation()?, iptables: iptables::marks()? })
    }

    /// A change of legacy rules that changes neither their number nor their size leaves the mark as it is.
    pub fn are_certain(&self) -> bool {
        self.iptables.is_empty()
    }
}
