//! ADD: addresses, a veth pair, programs, a record. When a step fails, the steps before it are undone.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use azure_cni_api::boot_time::BootTime;
use azure_cni_api::cni::{AddCall, AddResult, AttachmentId, CniError, CniVersion, Interface, IpConfig, Route};
use azure_cni_api::labels;
use azure_cni_api::mac::HOST_MAC;
use azure_cni_api::names;
use futures::future::join;
use ipnet::IpNet;

use super::build_endpoint::build_endpoint;
use super::failure::{Failure, no_ipv4};
use super::lease::lease;
use super::lock::lock;
use super::pod_netns::open_pod_netns;
use super::publish_routes::{publish_added, publish_routes};
use super::rejection::{pod_mtu, rejection};
use super::step_runner::StepRunner;
use super::undo::Undo;
use super::{del, spool};
use crate::agent::Agent;
use crate::endpoint::{Endpoint, PodOptions, addresses_of, gateway_for};
use crate::findings;
use crate::net::{Netns, RouteEntry};
use crate::state::AttachmentRecord;
use crate::steps::Step;

/// Attaches a pod. For an attachment that stands, the same call gives the same result.
pub async fn add(
    agent: &Arc<Agent>,
    call: AddCall,
    requested_at: BootTime,
    steps: &mut StepRunner,
) -> Result<AddResult, CniError> {
    let _lock = lock(agent, &call.attachment, steps).await?;
    let netns = open_pod_netns(&call.netns)?;
    if let Err(error) = spool::execute_before_add(agent, &call.attachment).await {
        tracing::error!(%error, "the spool cannot be read");
    }
    let mut observed = steps.run(Step::Observe, observe(agent, &call.attachment, &netns)).await?;
    if let Recorded::Remains = observed.recorded {
        tracing::warn!(attachment = %call.attachment, "an earlier attachment of this name is gone; removing its remains");
        del::detach(agent, &call.attachment, steps).await?;
        // The removal may have taken long.
        observed = steps.run(Step::Observe, observe(agent, &call.attachment, &netns)).await?;
    }
    if let Recorded::Stands(record) = observed.recorded {
        // Fails if the runtime asks for another address than the attachment has.
        steps.run(Step::Lease, lease(agent, &call)).await?;
        tracing::info!(attachment = %call.attachment, "stands already");
        let record = AttachmentRecord { requested_at, recorded_at: BootTime::now(), ..*record };
        let written = write(agent, record.clone(), steps).await;
        // A write that is overdue must not outlive the lock: the next call may be a DEL.
        steps.wait_for_overdue().await;
        written?;
        return result(&call, &record);
    }
    let mut undo = Undo::default();
    match attach(agent, &call, requested_at, &netns, &observed.node, steps, &mut undo).await {
        Ok(record) => result(&call, &record),
        Err(failure) => {
            steps.wait_for_overdue().await;
            undo.run().await;
            Err(failure.into())
        }
    }
}

/// What there is before ADD changes anything.
struct Observed {
    recorded: Recorded,
    /// What is wrong with the node.
    node: Vec<String>,
}

enum Recorded {
    Nothing,
    /// The attachment stands, in this very namespace.
    Stands(Box<AttachmentRecord>),
    /// The attachment does not stand.
    Remains,
}

/// Reads record and node at once: both need exchanges with the kernel.
async fn observe(agent: &Arc<Agent>, id: &AttachmentId, netns: &Netns) -> Result<Observed, Failure> {
    let (recorded, node) = join(recorded(agent, id, netns), findings::of_node(agent)).await;
    Ok(Observed { recorded: recorded?, node })
}

async fn recorded(agent: &Agent, id: &AttachmentId, netns: &Netns) -> Result<Recorded, Failure> {
    let Some(record) = agent.record(id) else { return Ok(Recorded::Nothing) };
    let link = agent.netlink.link(&record.host_interface).await?;
    let stands = record.netns_id == Some(netns.id()) && link.is_some_and(|link| link.index == record.host_ifindex);
    Ok(if stands { Recorded::Stands(record.into()) } else { Recorded::Remains })
}

/// Pushes the undo of each step before the step: a step whose limit passes may have been done in part.
async fn attach(
    agent: &Arc<Agent>,
    call: &AddCall,
    requested_at: BootTime,
    netns: &Netns,
    node: &[String],
    steps: &mut StepRunner,
    undo: &mut Undo,
) -> Result<AttachmentRecord, Failure> {
    let id = &call.attachment;

    let pool = agent.pool();
    if let Some(problem) = rejection(agent, &call.config) {
        return Err(Failure::Rejected(problem));
    }
    // A pod on a node that is not ready would have no network: the runtime is to try again, as STATUS says too.
    if let Some(problems) = findings::summary(node) {
        return Err(Failure::NotReady(problems));
    }

    undo.push("lease", {
        let (agent, id) = (agent.clone(), id.clone());
        async move {
            agent.leases.release(&id);
            Ok::<(), Failure>(())
        }
    });
    let addresses = steps.run(Step::Lease, lease(agent, call)).await?;

    let mut endpoint = Endpoint {
        addresses,
        node_addresses: pool.primaries(),
        host_interface: names::host_interface(id),
        pod_interface: id.ifname.to_string(),
        pod_mac: call.config.mac.unwrap_or_else(|| names::pod_mac(id)),
        mtu: pod_mtu(agent, call.config.mtu),
        table: None,
    };
    let options = PodOptions { keep_source: call.config.keep_source, bandwidth: call.config.bandwidth };
    let alias = labels::alias(id, &call.netns);
    let ifindex = build_endpoint(agent, &mut endpoint, &alias, netns, options, steps, undo).await?;

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
        own_table: endpoint.table.is_some(),
        keep_source: options.keep_source,
        bandwidth: options.bandwidth,
        requested_at,
        recorded_at: BootTime::now(),
    };
    undo.push("record", {
        let (agent, id) = (agent.clone(), id.clone());
        async move {
            let now = agent.now();
            agent.with_store(move |store| store.remove(&id, now)).await?;
            publish_routes(&agent).await
        }
    });
    write(agent, record.clone(), steps).await?;
    steps.run(Step::Routes, publish_added(agent, &record.via_host)).await?;
    Ok(record)
}

async fn write(agent: &Agent, record: AttachmentRecord, steps: &mut StepRunner) -> Result<(), Failure> {
    let store = agent.store.clone();
    steps.run_blocking(Step::Record, move || Ok(store.put(&record)?)).await
}

/// The result for the runtime: the host's end, the pod's end with its sandbox, and the pod's addresses.
fn result(call: &AddCall, record: &AttachmentRecord) -> Result<AddResult, CniError> {
    let addresses = addresses_of(record).ok_or_else(|| no_ipv4(record))?;
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
    let table = record.own_table.then(|| names::route_table(&record.host_interface));
    let default_route =
        |address| Route { table, ..Route::new(RouteEntry::default_like(address), Some(gateway_for(address))) };
    // Before 1.1.0 a result has no word for a table, and a default route without one would be untrue.
    let can_tell = table.is_none() || call.config.cni_version >= CniVersion::V1_1_0;
    let ours = AddResult {
        interfaces: vec![
            interface(&record.host_interface, HOST_MAC, None),
            interface(record.id.ifname.as_str(), record.pod_mac, Some(call.netns.display().to_string())),
        ],
        ips: addresses.iter().map(ip).collect(),
        routes: addresses.iter().filter(|_| can_tell).map(default_route).collect(),
        dns: call.config.dns.clone(),
    };
    Ok(match &call.config.prev_result {
        Some(earlier) => ours.after(earlier.clone()),
        None => ours,
    })
}
