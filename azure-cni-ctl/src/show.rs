//! The answers as a person reads them.

use std::net::{IpAddr, SocketAddr};
use std::time::{SystemTime, UNIX_EPOCH};

use azure_cni_api::socket::{DropCount, EndpointInfo, RefusalInfo, SourceStatus, Status, StepTime};
use comfy_table::{Table, presets};
use serde_json::Value;

pub fn status(status: &Status) {
    println!("agent      {} (map layout {})", status.version, status.abi);
    let primaries = joined([Some(status.primary), status.primary6].into_iter().flatten());
    println!(
        "uplink     {} with {primaries}, programs attached by {}, those of pods by {}",
        status.uplink, status.attach_mode, status.pod_attach_mode
    );
    println!("source     {}", source(&status.source));
    for (family, pool) in [("addresses ", Some(&status.pool)), ("IPv6      ", status.pool6.as_ref())] {
        if let Some(pool) = pool {
            println!("{family} {} leased, {} free, {} in all", pool.leased, pool.free, pool.total);
        }
    }
    println!("endpoints  {}", status.endpoints);
    println!("host       holds {} ports of the range for translated flows", status.host_ports);
    for table in &status.tables {
        println!("table      {}: {} of {}", table.name, table.used, table.max);
    }
    for (action, count) in &status.reconciled {
        println!("put right  {action}: {count}");
    }
    for problem in &status.problems {
        println!("problem    {problem}");
    }
}

/// Whether its word is new is what an operator looks for.
fn source(source: &SourceStatus) -> String {
    let confirmed = match source.confirmed_secs_ago {
        Some(secs) => format!("confirmed {secs} s ago"),
        None => "not asked yet".to_owned(),
    };
    let stale = if source.stale { ", stale" } else { "" };
    format!("{} {}, {confirmed}{stale}", source.kind, source.from)
}

fn joined(addresses: impl IntoIterator<Item = IpAddr>) -> String {
    addresses.into_iter().map(|address| address.to_string()).collect::<Vec<_>>().join(" ")
}

pub fn endpoints(answer: Value) -> anyhow::Result<()> {
    let endpoints: Vec<EndpointInfo> = serde_json::from_value(answer)?;
    let mut table = table(["ADDRESSES", "HOST INTERFACE", "INDEX", "POD MAC", "CONTAINER", "INTERFACE", "NETWORK"]);
    for endpoint in endpoints {
        table.add_row([
            joined(endpoint.addresses),
            endpoint.host_interface,
            endpoint.ifindex.to_string(),
            endpoint.pod_mac,
            endpoint.attachment.container_id.to_string(),
            endpoint.attachment.ifname.to_string(),
            endpoint.attachment.network.to_string(),
        ]);
    }
    println!("{table}");
    Ok(())
}

pub fn drops(answer: Value, all: bool) -> anyhow::Result<()> {
    let drops: Vec<DropCount> = serde_json::from_value(answer)?;
    let mut table = table(["NUMBER", "REASON", "PACKETS", "MEANING"]);
    for drop in drops.iter().filter(|drop| all || drop.packets > 0) {
        table.add_row([&drop.number.to_string(), &drop.name, &drop.packets.to_string(), &drop.meaning]);
    }
    if table.row_iter().next().is_none() {
        println!("nothing was dropped");
        return Ok(());
    }
    println!("{table}");
    Ok(())
}

pub fn events(answer: Value) -> anyhow::Result<()> {
    let refusals: Vec<RefusalInfo> = serde_json::from_value(answer)?;
    if refusals.is_empty() {
        println!("no flow was refused");
        return Ok(());
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
    println!("{table}");
    Ok(())
}

pub fn steps(answer: Value) -> anyhow::Result<()> {
    let times: Vec<StepTime> = serde_json::from_value(answer)?;
    if times.is_empty() {
        println!("no call has come yet");
        return Ok(());
    }
    let millis = |micros: u64| format!("{:.3}", micros as f64 / 1e3);
    let mut table = table(["COMMAND", "STEP", "COUNT", "P50 MS", "P99 MS", "MAX MS"]);
    for time in times {
        table.add_row([
            time.command,
            time.step,
            time.count.to_string(),
            millis(time.p50_us),
            millis(time.p99_us),
            millis(time.max_us),
        ]);
    }
    println!("{table}");
    Ok(())
}

fn protocol(number: u8) -> String {
    match i32::from(number) {
        libc::IPPROTO_TCP => "tcp".to_owned(),
        libc::IPPROTO_UDP => "udp".to_owned(),
        libc::IPPROTO_ICMP | libc::IPPROTO_ICMPV6 => "icmp".to_owned(),
        other => other.to_string(),
    }
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header);
    table
}
