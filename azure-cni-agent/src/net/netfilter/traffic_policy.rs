//! Whether kube-proxy takes hosts for pods of this node: its rules for services with `externalTrafficPolicy: Local` compare sources
//! with a prefix that holds the node's own address (kubernetes/pkg/proxy/iptables/proxier.go, "pod traffic for … external
//! destinations"; kubernetes/pkg/proxy/nftables/proxier.go, "short-circuit pod traffic").

use std::io;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{iptables, nftables};

/// How kube-proxy names the chain of a service's external addresses.
const EXTERNAL: [&str; 2] = ["KUBE-EXT-", "external-"];

/// A prefix of sources that a service's external addresses treat as pods of this node, and that holds one of these addresses. Of the
/// calling thread's namespace; blocks for some exchanges with the kernel.
pub fn hosts_taken_for_pods(hosts: &[IpAddr]) -> io::Result<Option<IpNet>> {
    let mut found = None;
    let mut visit = |chain: &[u8], source: IpNet| {
        let is_external = EXTERNAL.iter().any(|prefix| chain.starts_with(prefix.as_bytes()));
        if is_external && hosts.iter().any(|host| source.contains(host)) {
            found = Some(source);
        }
    };
    nftables::sources(&mut visit)?;
    iptables::sources(&mut visit)?;
    Ok(found)
}
