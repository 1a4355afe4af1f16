//! ADD: addresses, a veth pair, programs, a record. Every step that was done is undone when a later one fails.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use azure_cni_api::boot_time::BootTime;
use azure_cni_api::cni::{AddCall, AddResult, AttachmentId, CniError, Interface, IpConfig, Route};
use azure_cni_api::labels;
use azure_cni_api::mac::HOST_MAC;
use azure_cni_api::names;
use azure_cni_ipam::Addresses;
use futures::future::join;
use ipnet::IpNet;

use super::build::build;
use super::error::Failure;
use super::step::Step;
use super::steps::Steps;
use super::{addresses_of, open_pod_netns, publish_added, publish_routes, turn};
use crate::agent::Agent;
use crate::endpoint::{Endpoint, gateway_for};
use crate::findings::{self, Finding};
use crate::net::{Netns, RouteEntry};
use crate::spool;
use crate::state::AttachmentRecord;
use crate::undo::Undo;

/// Attaches a pod. The same call again for an attachment that stands gives the same result.
pub async fn add(agent: &Arc<Agent>, call: AddCall, asked: BootTime, steps: &mut Steps) -> Result<AddResult, CniError> {
    let _turn = turn(agent, &call.attachment, steps).await?;
    let netns = open_pod_netns(&call.netns)?;
    if let Err(error) = spool::carry_out_before_add(agent, &call.attachment).await {
        tracing::error!(%error, "the spool cannot be read");
    }
    let mut seen = steps.run(Step::Look, look(agent, &call.attachment, &netns)).await?;
    if let Recorded::Remains = seen.recorded {
        tracing::warn!(attachment = %call.attachment, "an earlier attachment of this name is gone; removing its remains");
        super::del::detach(agent, &call.attachment, steps).await?;
        // That may have taken long.
        seen = steps.run(Step::Look, look(agent, &call.attachment, &netns)).await?;
    }
    if let Recorded::Stands(record) = seen.recorded {
        // Refused if it asks for another address than it has: the runtime would be told what it did not ask for.
        steps.run(Step::Lease, lease(agent, &call)).await?;
        tracing::info!(attachment = %call.attachment, "stands already");
        let record = AttachmentRecord { asked, made: BootTime::now(), ..*record };
        write(agent, record.clone(), steps).await?;
        return result(&call, &record);
    }
    let mut undo = Undo::default();
    match attach(agent, &call, asked, &netns, &seen.node, steps, &mut undo).await {
        Ok(record) => result(&call, &record),
        Err(failure) => {
            steps.settle().await;
            undo.run().await;
            Err(failure.into())
        }
    }
}

/// What there is already.
struct Seen {
    recorded: Recorded,
    /// What is wrong with the node.
    node: Vec<Finding>,
}

enum Recorded {
    Nothing,
    /// In this very namespace.
    Stands(Box<AttachmentRecord>),
    /// Of an attachment that does not stand.
    Remains,
}

/// Looks at both at once: the record is waited for on another thread, the node is the kernel's to tell.
async fn look(agent: &Arc<Agent>, id: &AttachmentId, netns: &Netns) -> Result<Seen, Failure> {
    let (recorded, node) = join(recorded(agent, id, netns), findings::of_node(agent)).await;
    Ok(Seen { recorded: recorded?, node })
}

async fn recorded(agent: &Agent, id: &AttachmentId, netns: &Netns) -> Result<Recorded, Failure> {
    let Some(record) = agent.record(id).await? else { return Ok(Recorded::Nothing) };
    let link = agent.netlink.link(&record.host_interface).await?;
    let stands = record.netns_id == Some(netns.id()) && link.is_some_and(|link| link.index == record.host_ifindex);
    Ok(if stands { Recorded::Stands(record.into()) } else { Recorded::Remains })
}

/// The undo of each step is pushed before the step: one whose time is up may have been done in part.
async fn attach(
    agent: &Arc<Agent>,
    call: &AddCall,
    asked: BootTime,
    netns: &Netns,
    node: &[Finding],
    steps: &mut Steps,
    undo: &mut Undo,
) -> Result<AttachmentRecord, Failure> {
    let id = &call.attachment;

    let pool = agent.pool();
    if let Some(problem) = agent.unfit(&call.config) {
        return Err(Failure::Unfit(problem));
    }
    // A pod on a node that is not fit would have no network: the runtime is told to come again, as STATUS tells it.
    if let Some(problems) = findings::told(node) {
        return Err(Failure::NotReady(problems));
    }

    undo.push("lease", {
        let (agent, id) = (agent.clone(), id.clone());
        async move {
            agent.release(&id).await;
            Ok::<(), Failure>(())
        }
    });
    let addresses = steps.run(Step::Lease, lease(agent, call)).await?;

    let endpoint = Endpoint {
        addresses,
        node_addresses: pool.primaries(),
        host_interface: names::host_interface(id),
        pod_interface: id.ifname.to_string(),
        pod_mac: call.config.mac.unwrap_or_else(|| names::pod_mac(id)),
        mtu: agent.pod_mtu(call.config.mtu),
    };
    let keep_source = call.config.keep_source;
    let alias = labels::alias(id, &call.netns);
    let ifindex = build(agent, &endpoint, &alias, netns, keep_source, steps, undo).await?;

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
        asked,
        made: BootTime::now(),
    };
    undo.push("record", {
        let (agent, id) = (agent.clone(), id.clone());
        async move {
            let now = agent.boot_time();
            agent.with_store(move |store| store.remove(&id, &now)).await?;
            publish_routes(&agent).await
        }
    });
    write(agent, record.clone(), steps).await?;
    steps.run(Step::Routes, publish_added(agent, &record.via_host)).await?;
    Ok(record)
}

async fn lease(agent: &Agent, call: &AddCall) -> Result<Addresses, Failure> {
    Ok(agent.lease(&call.attachment, &call.config.address_request, &call.args).await?)
}

async fn write(agent: &Agent, record: AttachmentRecord, steps: &mut Steps) -> Result<(), Failure> {
    let store = agent.store.clone();
    steps.run_blocking(Step::Record, move || Ok(store.put(&record)?)).await
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
