//! What the operator's command shows: the agent's state as data.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

use azure_cni_api::socket::{
    DropCount, EndpointInfo, PoolStatus, RefusalInfo, ServicesStatus, SourceStatus, Status, TableStatus,
};
use azure_cni_datapath::TableFill;
use azure_cni_ipam::Counts;
use serde_json::Value;

use crate::agent::Agent;
use crate::routing::Services;
use crate::{findings, wall_clock};

pub async fn status(agent: &Arc<Agent>) -> anyhow::Result<Value> {
    let counts = agent.leases.counts();
    let mut problems: Vec<String> = findings::all(agent).await;
    let fills = {
        let agent = agent.clone();
        tokio::task::spawn_blocking(move || agent.datapath.tables().fills()).await??
    };
    problems.extend(fills.iter().filter_map(nearly_full));
    problems.extend(agent.routing().problem());
    problems.extend(agent.store_problem.clone());
    let (source, of_source) = source_status(agent);
    problems.extend(of_source);
    let host_ports = agent.host_ports.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map_or(0, BTreeSet::len);
    Ok(serde_json::to_value(Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        map_layout: azure_cni_common::ABI,
        uplink: agent.uplink.name.clone(),
        primary: agent.pool().primary.into(),
        primary6: agent.pool().primary6.map(Into::into),
        uplink_attach_mode: agent.datapath.modes().uplink.name().to_owned(),
        pod_attach_mode: agent.datapath.modes().endpoints.name().to_owned(),
        source,
        pool: pool_status(counts.v4),
        pool6: counts.v6.map(pool_status),
        endpoints: agent.records().len(),
        tables: fills
            .into_iter()
            .map(|TableFill { name, used, max }| TableStatus { name: name.to_owned(), used, max })
            .collect(),
        reserved_ports: host_ports,
        services: services(agent),
        routes_elsewhere: agent.elsewhere.lock().unwrap_or_else(PoisonError::into_inner).len(),
        repairs: repairs(agent),
        problems,
    })?)
}

fn services(agent: &Agent) -> Option<ServicesStatus> {
    match &*agent.services() {
        Services::Known(rules) => {
            Some(ServicesStatus { nftables: rules.nftables.len(), iptables: rules.iptables.len() })
        }
        Services::Unknown(_) => None,
    }
}

fn repairs(agent: &Agent) -> BTreeMap<String, u64> {
    let counters = agent.repairs.lock().unwrap_or_else(PoisonError::into_inner);
    counters.iter().map(|(action, count)| ((*action).to_owned(), *count)).collect()
}

/// How the pool's source does, and what of it needs an operator.
fn source_status(agent: &Agent) -> (SourceStatus, Vec<String>) {
    let now = wall_clock::unix_secs();
    let health = agent.source.health();
    let status = SourceStatus {
        kind: agent.source.origin.kind.name().to_owned(),
        location: agent.source.origin.from.clone(),
        confirmed_secs_ago: health.age_secs(now),
        stale: health.is_stale(),
        last_error: health.last_error().map(str::to_owned),
        attempts: health.attempts,
        failures: health.failures,
        changes: health.changes,
    };
    (status, health.problems(now))
}

/// Above 90 %: assured flows before new ones are refused, half-open ones before they push each other out, routes before all takes
/// the host's stack or some are left out.
fn nearly_full(fill: &TableFill) -> Option<String> {
    let TableFill { name, used, max } = *fill;
    let then = if name.contains("ROUTES") {
        "all that pods send takes the host's stack, or prefixes are left out; datapath.max_routes sets its size"
    } else if name.contains("OPEN") || name.contains("DATAGRAMS") {
        "flows that are not assured push each other out; datapath.max_half_open sets its size"
    } else {
        "new flows are refused; datapath.max_flows sets its size"
    };
    (used * 10 > max * 9).then(|| format!("table {name} has {used} of {max} entries; once it is full, {then}"))
}

fn pool_status(counts: Counts) -> PoolStatus {
    PoolStatus { total: counts.total, free: counts.free, leased: counts.leased }
}

pub async fn endpoints(agent: &Arc<Agent>) -> anyhow::Result<Value> {
    let flows = agent.datapath.tables().pod_flows()?;
    let mut endpoints = Vec::new();
    for record in agent.records() {
        let Some(address) = record.addresses.first().copied() else { continue };
        endpoints.push(EndpointInfo {
            attachment: record.id,
            address,
            flows: record.addresses.iter().filter_map(|address| flows.get(address)).sum(),
            addresses: record.addresses,
            host_interface: record.host_interface,
            ifindex: record.host_ifindex,
            netns: record.netns.display().to_string(),
            pod_mac: record.pod_mac.map(|byte| format!("{byte:02x}")).join(":"),
        });
    }
    Ok(serde_json::to_value(endpoints)?)
}

pub fn events(agent: &Arc<Agent>) -> anyhow::Result<Value> {
    let recent = agent.refusals.lock().unwrap_or_else(PoisonError::into_inner).recent();
    let refusals: Vec<RefusalInfo> = recent
        .into_iter()
        .map(|(refusal, seen)| RefusalInfo {
            pod: refusal.pod,
            source: refusal.source,
            destination: refusal.destination,
            destination_port: refusal.destination_port,
            protocol: refusal.protocol,
            reason: refusal.reason.name().to_owned(),
            count: seen.count,
            first_unix_ms: seen.first_unix_ms,
            last_unix_ms: seen.last_unix_ms,
        })
        .collect();
    Ok(serde_json::to_value(refusals)?)
}

pub fn drops(agent: &Arc<Agent>) -> anyhow::Result<Value> {
    let counters = agent.datapath.tables().drops()?;
    let drops: Vec<DropCount> = counters
        .into_iter()
        .map(|counter| DropCount {
            number: counter.reason.number(),
            name: counter.reason.name().to_owned(),
            meaning: counter.reason.meaning().to_owned(),
            packets: counter.per_cpu.iter().sum(),
            per_cpu: counter.per_cpu,
        })
        .collect();
    Ok(serde_json::to_value(drops)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_above_nine_tenths_is_a_problem_that_names_the_key() {
        let problem = |name, used| nearly_full(&TableFill { name, used, max: 1000 });
        assert_eq!((problem("FLOWS4", 900), problem("NAT6", 0)), (None, None));
        assert!(problem("FLOWS4", 901).unwrap().contains("FLOWS4 has 901 of 1000 entries"));
        for (name, key) in [
            ("NAT4", "max_flows"),
            ("ROUTES4", "max_routes"),
            ("HALF_OPEN6", "max_half_open"),
            ("DATAGRAMS4", "max_half_open"),
            ("NAT_HALF_OPEN4", "max_half_open"),
        ] {
            let problem = problem(name, 1000).unwrap();
            assert!(problem.contains(key), "{problem}");
        }
    }
}
