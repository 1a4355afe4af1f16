//! What the operator's command shows: the agent's state as data.

use std::sync::Arc;

use serde_json::Value;

use crate::agent::Agent;
use crate::api::{DropCount, EndpointInfo, Status};
use crate::datapath::Hook;
use crate::node;

pub async fn status(agent: &Arc<Agent>) -> anyhow::Result<Value> {
    let counts = agent.pool_counts();
    let mut problems = node::problems(&agent.netlink, &agent.uplink).await?;
    for hook in Hook::UPLINK {
        if !agent.datapath.is_attached(hook, &agent.uplink.name)? {
            problems.push(format!("program {} is not attached to uplink {}", hook.program(), agent.uplink.name));
        }
    }
    if counts.free == 0 {
        problems.push("the pool has no free address".to_owned());
    }
    let fills = {
        let agent = agent.clone();
        tokio::task::spawn_blocking(move || agent.datapath.tables().fills()).await??
    };
    let flows = fills.first().copied();
    Ok(serde_json::to_value(Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        abi: azure_cni_common::ABI,
        uplink: agent.uplink.name.clone(),
        primary: agent.pool.primary.into(),
        attach_mode: agent.datapath.mode().name().to_owned(),
        pool: crate::api::PoolStatus { total: counts.total, free: counts.free, leased: counts.leased },
        endpoints: agent.records().await?.len(),
        flows: crate::api::FlowStatus {
            used: flows.map_or(0, |fill| fill.used),
            max: flows.map_or(0, |fill| fill.max),
        },
        problems,
    })?)
}

pub async fn endpoints(agent: &Arc<Agent>) -> anyhow::Result<Value> {
    let mut endpoints = Vec::new();
    for record in agent.records().await? {
        let Some(address) = record.addresses.first().copied() else { continue };
        endpoints.push(EndpointInfo {
            attachment: record.id,
            address,
            host_interface: record.host_interface,
            ifindex: record.host_ifindex,
            netns: record.netns.display().to_string(),
            pod_mac: record.pod_mac.map(|byte| format!("{byte:02x}")).join(":"),
        });
    }
    Ok(serde_json::to_value(endpoints)?)
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
