//! The same rules as kube-proxy writes them in mode nftables: one table, whose maps lead from an address and port to a chain.

use std::fmt::Write;

use super::service::Service;
use crate::station::IpVersion;

pub(super) fn rules(version: IpVersion, cluster: &str, services: &[Service]) -> String {
    let (family, address_type) = match version {
        IpVersion::V4 => ("ip", "ipv4_addr"),
        IpVersion::V6 => ("ip6", "ipv6_addr"),
    };
    let mut chains = String::new();
    let (mut service_ips, mut node_ports) = (Vec::new(), Vec::new());
    for service in services {
        for protocol in ["tcp", "udp"] {
            let Service { name, address, external, node_port, .. } = service;
            let (id, port) = (format!("{name}-{protocol}"), address.port());
            service_ips.push(format!("{} . {protocol} . {port} : goto service-{id}", address.ip()));
            service_ips.extend(external.iter().map(|to| format!("{to} . {protocol} . {port} : goto external-{id}")));
            node_ports.extend(node_port.map(|port| format!("{protocol} . {port} : goto external-{id}")));
            write_chains(&mut chains, family, cluster, service, protocol).expect("a String takes all");
        }
    }
    format!(
        "add table {family} kube-proxy\n\
         delete table {family} kube-proxy\n\
         table {family} kube-proxy {{\n\
           map service-ips {{ type {address_type} . inet_proto . inet_service : verdict; {} }}\n\
           map service-nodeports {{ type inet_proto . inet_service : verdict; {} }}\n\
           chain mark-for-masquerade {{ meta mark set meta mark or 0x4000; }}\n\
           {chains}\
           chain services {{\n\
             {family} daddr . meta l4proto . th dport vmap @service-ips\n\
             fib daddr type local meta l4proto . th dport vmap @service-nodeports\n\
           }}\n\
           chain nat-prerouting {{ type nat hook prerouting priority dstnat; jump services; }}\n\
           chain nat-output {{ type nat hook output priority -100; jump services; }}\n\
           chain nat-postrouting {{\n\
             type nat hook postrouting priority srcnat;\n\
             meta mark & 0x4000 == 0x4000 meta mark set meta mark xor 0x4000 masquerade fully-random\n\
           }}\n\
         }}\n",
        elements(&service_ips),
        elements(&node_ports)
    )
}

fn elements(of_map: &[String]) -> String {
    if of_map.is_empty() { String::new() } else { format!("elements = {{ {} }};", of_map.join(", ")) }
}

fn write_chains(
    chains: &mut String,
    family: &str,
    cluster: &str,
    service: &Service,
    protocol: &str,
) -> std::fmt::Result {
    let Service { name, address, backends, .. } = service;
    let id = format!("{name}-{protocol}");
    for (number, backend) in backends.iter().enumerate() {
        writeln!(
            chains,
            "chain endpoint-{id}-{number} {{\n\
               {family} saddr {} jump mark-for-masquerade\n\
               meta l4proto {protocol} dnat to {backend}\n\
             }}",
            backend.ip()
        )?;
    }
    let ways: Vec<_> = (0..backends.len()).map(|number| format!("{number} : goto endpoint-{id}-{number}")).collect();
    writeln!(
        chains,
        "chain service-{id} {{\n\
           {family} daddr {} {protocol} dport {} {family} saddr != {cluster} jump mark-for-masquerade\n\
           numgen random mod {} vmap {{ {} }}\n\
         }}\n\
         chain external-{id} {{ jump mark-for-masquerade; goto service-{id}; }}",
        address.ip(),
        address.port(),
        backends.len(),
        ways.join(", ")
    )
}
