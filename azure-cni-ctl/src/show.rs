//! The answers as text for people: lines for the status, tables for the rest.

use std::net::{IpAddr, SocketAddr};
use std::time::{SystemTime, UNIX_EPOCH};

use azure_cni_api::socket::{DropCount, EndpointInfo, RefusalInfo, ServicesStatus, SourceStatus, Status, StepLatency};
use comfy_table::{Table, presets};

pub fn status(status: &Status) -> String {
    let primaries = joined([Some(status.primary), status.primary6].into_iter().flatten());
    let mut lines = vec![
        format!("agent      {} (map layout {})", status.version, status.map_layout),
        format!(
            "uplink     {} with {primaries}, programs attached by {}, those of pods by {}",
            status.uplink, status.uplink_attach_mode, status.pod_attach_mode
        ),
        format!("source     {}", source(&status.source)),
    ];
    for (family, pool) in [("addresses ", Some(&status.pool)), ("IPv6      ", status.pool6.as_ref())] {
        lines.extend(
            pool.map(|pool| format!("{family} {} leased, {} free, {} in all", pool.leased, pool.free, pool.total)),
        );
    }
    lines.push(format!("endpoints  {}", status.endpoints));
    lines.push(format!("host       holds {} ports of the source NAT range", status.reserved_ports));
    lines.push(format!("services   {}", status.services.map_or_else(|| "not known".to_owned(), services)));
    lines.push(format!("routes     {} prefixes lead elsewhere than to the uplink", status.routes_elsewhere));
    lines.extend(
        status.tables.iter().map(|table| format!("table      {}: {} of {}", table.name, table.used, table.max)),
    );
    lines.extend(status.repairs.iter().map(|(kind, count)| format!("repaired   {kind}: {count}")));
    lines.extend(status.problems.iter().map(|problem| format!("problem    {problem}")));
    lines.join("\n")
}

fn services(ServicesStatus { nftables, iptables }: ServicesStatus) -> String {
    format!("{nftables} destinations in rules of nftables, {iptables} in legacy ones of iptables")
}

/// The source, and how current the pool is.
fn source(source: &SourceStatus) -> String {
    let confirmed = match source.confirmed_secs_ago {
        Some(secs) => format!("confirmed {secs} s ago"),
        None => "not confirmed yet".to_owned(),
    };
    let stale = if source.stale { ", stale" } else { "" };
    format!("{} {}, {confirmed}{stale}", source.kind, source.location)
}

fn joined(addresses: impl IntoIterator<Item = IpAddr>) -> String {
    addresses.into_iter().map(|address| address.to_string()).collect::<Vec<_>>().join(" ")
}

pub fn endpoints(endpoints: Vec<EndpointInfo>) -> String {
    let mut table =
        table(["ADDRESSES", "FLOWS", "HOST INTERFACE", "INDEX", "POD MAC", "CONTAINER", "INTERFACE", "NETWORK"]);
    for endpoint in endpoints {
        table.add_row([
            joined(endpoint.addresses),
            endpoint.flows.to_string(),
            endpoint.host_interface,
            endpoint.ifindex.to_string(),
            endpoint.pod_mac,
            endpoint.attachment.container_id.to_string(),
            endpoint.attachment.ifname.to_string(),
            endpoint.attachment.network.to_string(),
        ]);
    }
    table.to_string()
}

pub fn drops(drops: Vec<DropCount>, all: bool) -> String {
    let mut table = table(["NUMBER", "REASON", "PACKETS", "MEANING"]);
    for drop in drops.iter().filter(|drop| all || drop.packets > 0) {
        table.add_row([&drop.number.to_string(), &drop.name, &drop.packets.to_string(), &drop.meaning]);
    }
    if table.row_iter().next().is_none() { "nothing was dropped".to_owned() } else { table.to_string() }
}

pub fn events(refusals: Vec<RefusalInfo>) -> String {
    if refusals.is_empty() {
        return "no flow was refused".to_owned();
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    let mut table = table(["SECONDS AGO", "TIMES", "POD", "SOURCE", "DESTINATION", "PROTOCOL", "REASON"]);
    for refusal in refusals {
        table.add_row([
            (now.saturating_sub(refusal.last_unix_ms) / 1000).to_string(),
            refusal.count.to_string(),
            refusal.pod.map_or_else(|| "-".to_owned(), |pod| pod.to_string()),
            refusal.source.to_string(),
            SocketAddr::new(refusal.destination, refusal.destination_port).to_string(),
            protocol(refusal.protocol),
            refusal.reason,
        ]);
    }
    table.to_string()
}

pub fn steps(latencies: Vec<StepLatency>) -> String {
    if latencies.is_empty() {
        return "no call has come yet".to_owned();
    }
    let millis = |micros: u64| format!("{:.3}", micros as f64 / 1e3);
    let mut table = table(["COMMAND", "STEP", "COUNT", "P50 MS", "P99 MS", "MAX MS"]);
    for latency in latencies {
        table.add_row([
            latency.command,
            latency.step,
            latency.count.to_string(),
            millis(latency.p50_us),
            millis(latency.p99_us),
            millis(latency.max_us),
        ]);
    }
    table.to_string()
}

fn protocol(number: u8) -> String {
    match i32::from(number) {
        libc::IPPROTO_TCP => "tcp".to_owned(),
        libc::IPPROTO_UDP => "udp".to_owned(),
        libc::IPPROTO_UDPLITE => "udplite".to_owned(),
        libc::IPPROTO_ICMP | libc::IPPROTO_ICMPV6 => "icmp".to_owned(),
        other => other.to_string(),
    }
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header);
    table
}
