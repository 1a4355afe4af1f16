//! The rules of kube-proxy, in the chains and the order in which it writes them, by the programs that a node has:
//! kubernetes/pkg/proxy/iptables/proxier.go and kubernetes/pkg/proxy/nftables/proxier.go.
//!
//! They have what matters to a data path: DNAT before routing, the mark for masquerading, and the FORWARD rule that drops
//! packets in state INVALID, such as those of connections of which the stack sees one direction only.

mod iptables;
mod nftables;
mod service;

use std::time::Duration;

pub use service::Service;

use crate::{error::Result, namespace::Namespace, nft::nft, process, station::IpVersion};

const LIMIT: Duration = Duration::from_secs(20);

/// By what kube-proxy writes its rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyMode {
    /// iptables, with nftables behind it.
    Iptables,
    /// iptables as it was before nftables.
    LegacyIptables,
    /// nftables itself.
    Nftables,
}

/// Writes the rules of all services of one version of IP, in place of those that were there. Clients outside of the prefix `cluster`
/// are masqueraded.
pub fn kube_proxy(node: &Namespace, version: IpVersion, cluster: &str, services: &[Service]) -> Result<()> {
    kube_proxy_by(ProxyMode::Iptables, node, version, cluster, services)
}

/// The same in another mode.
pub fn kube_proxy_by(
    mode: ProxyMode,
    node: &Namespace,
    version: IpVersion,
    cluster: &str,
    services: &[Service],
) -> Result<()> {
    let program = match (mode, version) {
        (ProxyMode::Nftables, version) => return nft(node, &nftables::rules(version, cluster, services)).map(drop),
        (ProxyMode::Iptables, IpVersion::V4) => "iptables-nft-restore",
        (ProxyMode::Iptables, IpVersion::V6) => "ip6tables-nft-restore",
        (ProxyMode::LegacyIptables, IpVersion::V4) => "iptables-legacy-restore",
        (ProxyMode::LegacyIptables, IpVersion::V6) => "ip6tables-legacy-restore",
    };
    restore_rules(node, program, &iptables::rules(cluster, services))
}

/// Has one of the programs of iptables that restore rules put these in the place of those of the same tables.
pub fn restore_rules(node: &Namespace, program: &str, rules: &str) -> Result<()> {
    process::run_ok(node.command(program)?, rules.as_bytes(), LIMIT).map(drop)
}
