//! ADD: addresses, a veth pair, programs, a record. Every step that was done is undone when a later one fails.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use ipnet::IpNet;

use super::build::build;
use super::error::Failure;
use super::step::Step;
use super::{addresses_of, open_pod_netns, publish_routes};
use crate::agent::Agent;
use crate::cni::{AddCall, AddResult, AttachmentId, CniError, Interface, IpConfig, Route};
use crate::endpoint::{self, Endpoint, HOST_MAC, gateway_for};
use crate::net::{Netns, RouteEntry};
use crate::node;
use crate::state::AttachmentRecord;
use crate::undo::Undo;

/// Attaches a pod. The same call again for an attachment that stands gives the same result.
pub async fn add(agent: &Arc<Agent>, call: AddCall) -> Result<AddResult, CniError> {
    let _turn = agent.turns.wait_for(&call.attachment).await;
    let netns = open_pod_netns(&call.netns)?;
    if let Some(record) = standing(agent, &call.attachment, &netns).await? {
        // Refused if it asks for another address than it has: the runtime would be told what it did not ask for.
        agent.lease(&call.attachment, &call.config.wish, &call.args).await.map_err(Failure::from)?;
        tracing::info!(attachment = %call.attachment, "stands already");
        return result(&call, &record);
    }
    let mut undo = Undo::default();
    match attach(agent, &call, &netns, &mut undo).await {
        Ok(record) => result(&call, &record),
        Err(failure) => {
            undo.run().await;
            Err(failure.into())
        }
    }
}

/// The record of the attachment if it stands in this very namespace. Remains of one that does not are removed.
async fn standing(agent: &Agent, id: &AttachmentId, netns: &Netns) -> Result<Option<AttachmentRecord>, CniError> {
    let wanted = id.clone();
    let record = agent.with_store(move |store| store.get(&wanted)).await.map_err(Failure::from)?;
    let Some(record) = record else { return Ok(None) };
    let link = agent.netlink.link(&record.host_interface).await.map_err(Failure::from)?;
    let stands = record.netns_id == Some(netns.id()) && link.is_some_and(|link| link.index == record.host_ifindex);
    if stands {
        return Ok(Some(record));
    }
    tracing::warn!(attachment = %id, "an earlier attachment of this name is gone; removing its remains");
    super::del::detach(agent, id).await?;
    Ok(None)
}

async fn attach(
    agent: &Arc<Agent>,
    call: &AddCall,
    netns: &Netns,
    undo: &mut Undo,
) -> Result<AttachmentRecord, Failure> {
    let id = &call.attachment;
    let faults = agent.faults;

    let pool = agent.pool();
    let mtu = agent.pod_mtu(call.config.mtu);
    if let Some(problem) = node::ipv6_mtu_problem(mtu).filter(|_| pool.is_dual_stack()) {
        return Err(Failure::Unfit(problem));
    }
    let addresses = agent.lease(id, &call.config.wish, &call.args).await?;
    undo.push("lease", {
        let (agent, id) = (agent.clone(), id.clone());
        async move {
            agent.release(&id).await;
            Ok::<(), Failure>(())
        }
    });
    faults.after(Step::Lease)?;

    let endpoint = Endpoint {
        addresses,
        node_addresses: pool.primaries(),
        host_interface: endpoint::host_interface(id),
        pod_interface: id.ifname.to_string(),
        pod_mac: endpoint::pod_mac(id),
        mtu,
    };
    let keep_source = call.config.keep_source;
    let alias = endpoint::label::alias(id, &call.netns);
    let ifindex = build(agent, &endpoint, &alias, netns, keep_source, faults, undo).await?;

    let record = AttachmentRecord {
        id: id.clone(),
        addresses: addresses.iter().collect(),
        host_interface: endpoint.host_interface,
        host_ifindex: ifindex,
        pod_mac: endpoint.pod_mac,
        netns: call.netns.clone(),
        netns_id: Some(netns.id()),
        boot_id: agent.boot_id.clone(),
        mtu: endpoint.mtu,
        via_host: call.config.ips_to_route_via_host.clone(),
        keep_source,
    };
    undo.push("record", {
        let (agent, id) = (agent.clone(), id.clone());
        async move {
            let now = agent.moment();
            agent.with_store(move |store| store.remove(&id, &now)).await?;
            publish_routes(&agent).await
        }
    });
    let written = record.clone();
    agent.with_store(move |store| store.put(&written)).await?;
    faults.after(Step::Record)?;
    if !record.via_host.is_empty() {
        publish_routes(agent).await?;
    }
    faults.after(Step::Routes)?;
    Ok(record)
}

/// What the runtime is told: the host's end, the pod's end with its sandbox, the addresses on the latter.
fn result(call: &AddCall, record: &AttachmentRecord) -> Result<AddResult, CniError> {
    let addresses = addresses_of(record)?;
    let interface = |name: &str, mac: [u8; 6], sandbox| Interface {
        name: name.to_owned(),
        mac: Some(mac.map(|byte| format!("{byte:02x}")).join(":")),
        mtu: Some(record.mtu),
        sandbox,
        socket_path: None,
        pci_id: None,
    };
    let ip =
        |address| IpConfig { address: IpNet::from(address), gateway: Some(gateway_for(address)), interface: Some(1) };
    let default_route = |address| Route::new(RouteEntry::default_like(address), Some(gateway_for(address)));
    let ours = AddResult {
        interfaces: vec![
            interface(&record.host_interface, HOST_MAC, None),
            interface(record.id.ifname.as_str(), record.pod_mac, Some(call.netns.display().to_string())),
        ],
        ips: addresses.iter().map(ip).collect(),
        routes: addresses.iter().map(default_route).collect(),
        dns: call.config.dns.clone(),
    };
    Ok(match &call.config.prev_result {
        Some(earlier) => ours.after(earlier.clone()),
        None => ours,
    })
}
