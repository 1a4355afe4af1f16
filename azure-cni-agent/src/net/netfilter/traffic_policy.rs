//! What kube-proxy takes for pods of this node: its rules for services with `externalTrafficPolicy: Local` compare sources with a
//! prefix (kubernetes/pkg/proxy/iptables/proxier.go, "pod traffic for … external destinations";
//! kubernetes/pkg/proxy/nftables/proxier.go, "short-circuit pod traffic").

use std::collections::BTreeSet;
use std::io;

use ipnet::IpNet;

use super::{iptables, nftables};

/// How kube-proxy names the chain of a service's external addresses.
const EXTERNAL: [&str; 2] = ["KUBE-EXT-", "external-"];

/// The prefixes of sources that services' external addresses treat as pods of this node. Of the calling thread's namespace; blocks for
/// some exchanges with the kernel.
pub fn taken_for_pods() -> io::Result<BTreeSet<IpNet>> {
    let is_external = |chain: &[u8]| EXTERNAL.iter().any(|prefix| chain.starts_with(prefix.as_bytes()));
    let mut found = BTreeSet::new();
    nftables::sources(is_external, |source| _ = found.insert(source))?;
    iptables::sources(is_external, |source| _ = found.insert(source))?;
    Ok(found)
}
