//! The rules as kube-proxy writes them in mode iptables, for the programs that restore rules.

use std::fmt::Write;

use super::service::Service;

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

pub(super) fn rules(cluster: &str, services: &[Service]) -> String {
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
