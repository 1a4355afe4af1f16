//! The rules of kube-proxy, in the chains and the order in which it writes them, by the programs that a node has:
//! kubernetes/pkg/proxy/iptables/proxier.go and kubernetes/pkg/proxy/nftables/proxier.go.
//!
//! They have what matters to a data path: DNAT before routing, the mark for masquerading, and the FORWARD rule that drops
//! packets in state INVALID, such as those of connections of which the stack sees one direction only.

use std::{
    fmt::Write,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use crate::{error::Result, namespace::Namespace, nft::nft, process, station::IpVersion};

mod nftables;

const LIMIT: Duration = Duration::from_secs(20);

/// A service of the cluster, for TCP and UDP alike.
#[derive(Debug, Clone)]
pub struct Service {
    /// Unique among the services of a node.
    pub name: &'static str,
    /// The cluster IP and port.
    pub address: SocketAddr,
    /// Addresses of load balancers and `externalIPs`, with the same port (`externalTrafficPolicy: Cluster`).
    pub external: Vec<IpAddr>,
    /// Its backends.
    pub backends: Vec<SocketAddr>,
    /// The port of every node that leads there too, for any client (`externalTrafficPolicy: Cluster`).
    pub node_port: Option<u16>,
}

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
    restore_rules(node, program, &rules(cluster, services))
}

/// Has one of the programs of iptables that restore rules put these in the place of those of the same tables.
pub fn restore_rules(node: &Namespace, program: &str, rules: &str) -> Result<()> {
    process::run_ok(node.command(program)?, rules.as_bytes(), LIMIT).map(drop)
}

/// The filter table lets established connections and marked packets through, and drops invalid ones.
const FILTER: &str = "\
*filter
:KUBE-FORWARD - [0:0]
-A FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m comment --comment \"kubernetes forwarding rules\" -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m comment --comment \"kubernetes forwarding conntrack rule\" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
";

/// The rules of every node, without services.
const NAT: &str = "\
*nat
:KUBE-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-MARK-MASQ - [0:0]
-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
-A KUBE-POSTROUTING -m comment --comment \"kubernetes service traffic requiring SNAT\" -j MASQUERADE --random-fully
-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
";

const NODE_PORTS_LAST: &str = "-A KUBE-SERVICES -m comment --comment \"kubernetes service nodeports; NOTE: this must be the last rule in \
                               this chain\" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS\n";

fn rules(cluster: &str, services: &[Service]) -> String {
    let mut rules = String::from(NAT);
    for service in services {
        for protocol in ["tcp", "udp"] {
            write_service(&mut rules, cluster, service, protocol).expect("a String takes all");
        }
    }
    rules + NODE_PORTS_LAST + "COMMIT\n" + FILTER
}

fn write_service(rules: &mut String, cluster: &str, service: &Service, protocol: &str) -> std::fmt::Result {
    let Service { name, address, external, backends, node_port } = service;
    let id = format!("{}-{}", name.to_uppercase(), protocol.to_uppercase());
    let (to, port) = (address.ip(), address.port());
    let comment = format!("-m comment --comment \"default/{name}\"");
    writeln!(rules, ":KUBE-SVC-{id} - [0:0]\n:KUBE-EXT-{id} - [0:0]")?;
    writeln!(
        rules,
        "-A KUBE-SERVICES -d {to} -p {protocol} {comment} -m {protocol} --dport {port} -j KUBE-SVC-{id}\n\
         -A KUBE-SVC-{id} ! -s {cluster} -d {to} -p {protocol} {comment} -m {protocol} --dport {port} -j KUBE-MARK-MASQ\n\
         -A KUBE-EXT-{id} {comment} -j KUBE-MARK-MASQ\n\
         -A KUBE-EXT-{id} -j KUBE-SVC-{id}"
    )?;
    for to in external {
        writeln!(
            rules,
            "-A KUBE-SERVICES -d {to} -p {protocol} {comment} -m {protocol} --dport {port} -j KUBE-EXT-{id}"
        )?;
    }
    if let Some(port) = node_port {
        writeln!(rules, "-A KUBE-NODEPORTS -p {protocol} {comment} -m {protocol} --dport {port} -j KUBE-EXT-{id}")?;
    }
    for (number, backend) in backends.iter().enumerate() {
        let endpoint = format!("KUBE-SEP-{id}-{number}");
        let left = backends.len() - number;
        let chance = match left {
            1 => String::new(),
            _ => format!(" -m statistic --mode random --probability {:.11}", 1.0 / left as f64),
        };
        writeln!(
            rules,
            ":{endpoint} - [0:0]\n\
             -A KUBE-SVC-{id} {comment}{chance} -j {endpoint}\n\
             -A {endpoint} -s {} {comment} -j KUBE-MARK-MASQ\n\
             -A {endpoint} -p {protocol} {comment} -m {protocol} -j DNAT --to-destination {backend}",
            backend.ip()
        )?;
    }
    Ok(())
}
