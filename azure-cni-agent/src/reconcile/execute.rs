//! Executes the actions. Each checks again before it changes anything, as the node has changed since it was observed.

use std::net::IpAddr;
use std::sync::Arc;

use azure_cni_api::cni::{AttachmentId, CniError};
use azure_cni_api::labels;
use azure_cni_api::mac::HOST_MAC;
use azure_cni_api::names;
use azure_cni_datapath::Hook;

use super::plan::{Action, Repair};
use crate::agent::Agent;
use crate::endpoint::{self, Endpoint, EndpointError, PodOptions};
use crate::net::{Netlink, Netns, sysctl};
use crate::programs::{self, Interface};
use crate::state::AttachmentRecord;
use crate::verbs::{self, Failure, StepRunner};

/// Goes on past failures. Each is logged, and the next round finds what is left.
pub async fn execute_all(agent: &Arc<Agent>, actions: Vec<Action>) {
    for action in actions {
        let (kind, what) = (action.name(), describe(&action));
        match execute(agent, action).await {
            Ok(true) => report(agent, kind, &what),
            Ok(false) => {}
            Err(error) => tracing::error!(action = kind, what, %error, "out of line, and could not be repaired"),
        }
    }
}

fn report(agent: &Agent, kind: &'static str, what: &str) {
    tracing::warn!(action = kind, what, "out of line; repaired");
    agent.count_repair(kind);
}

/// Whether it was done as a whole. It is not if there is no need any more, or if a call works on the attachment.
async fn execute(agent: &Arc<Agent>, action: Action) -> Result<bool, CniError> {
    match action {
        Action::Release { id, .. } => release(agent, &id).await,
        Action::RemoveLink { name, index } => remove_link(agent, &name, index).await,
        Action::Unpin { interface } => unpin(agent, &interface).await,
        Action::RemoveMapEntry { address } => Ok(remove_map_entry(agent, address)?),
        Action::DropLease { id } => drop_lease(agent, &id).await,
        Action::Rebuild { id } => rebuild(agent, &id).await,
        Action::Repair { id, interface, index, missing } => {
            repair(agent, &id, &interface, index, missing).await.map(|()| false)
        }
    }
}

async fn release(agent: &Arc<Agent>, id: &AttachmentId) -> Result<bool, CniError> {
    let Some(_lock) = agent.locks.try_lock(id) else { return Ok(false) };
    let Some(record) = agent.record(id) else { return Ok(false) };
    let link = agent.netlink.link(&record.host_interface).await.map_err(Failure::from)?;
    if link.is_some_and(|link| link.index == record.host_ifindex && record.boot_id == agent.boot_id) {
        return Ok(false);
    }
    verbs::detach(agent, id, &mut StepRunner::default()).await.map(|()| true)
}

/// The alias names the attachment. Without an alias, the veth must not be of an attachment that a call works on.
async fn remove_link(agent: &Agent, name: &str, index: u32) -> Result<bool, CniError> {
    let Some(link) = agent.netlink.link(name).await.map_err(Failure::from)?.filter(|link| link.index == index) else {
        return Ok(false);
    };
    let owner = link.alias.as_deref().and_then(labels::read_alias).map(|label| label.id);
    let _lock = match &owner {
        Some(id) => {
            let Some(lock) = agent.locks.try_lock(id) else { return Ok(false) };
            let stands = agent.record(id).is_some_and(|record| record.host_ifindex == index);
            if stands {
                return Ok(false);
            }
            Some(lock)
        }
        None if agent.locks.held().iter().any(|id| names::host_interface(id) == name) => return Ok(false),
        None => None,
    };
    agent.netlink.delete_link_by_index(index).await.map_err(Failure::from)?;
    Ok(true)
}

async fn unpin(agent: &Agent, interface: &str) -> Result<bool, CniError> {
    // A call that has begun needs its pins; a call that begins now attaches its own.
    if agent.locks.held().iter().any(|id| names::host_interface(id) == interface) {
        return Ok(false);
    }
    if agent.records().iter().any(|record| record.host_interface == interface) {
        return Ok(false);
    }
    for hook in Hook::ENDPOINT {
        agent.datapath.unpin(hook, interface).map_err(Failure::from)?;
    }
    Ok(true)
}

/// Takes an address out of the data path unless an attachment holds it.
fn remove_map_entry(agent: &Agent, address: IpAddr) -> Result<bool, Failure> {
    // The leases are locked meanwhile, so that no attachment gets the address in between.
    match agent.leases.with_unheld(address, || agent.datapath.tables().remove_endpoint(address)) {
        None => return Ok(false),
        Some(removed) => removed?,
    }
    tokio::task::block_in_place(|| agent.datapath.tables().scrub(address))?;
    Ok(true)
}

async fn drop_lease(agent: &Arc<Agent>, id: &AttachmentId) -> Result<bool, CniError> {
    let Some(_lock) = agent.locks.try_lock(id) else { return Ok(false) };
    if agent.record(id).is_some() || agent.leases.lease_of(id).is_none() {
        return Ok(false);
    }
    verbs::detach(agent, id, &mut StepRunner::default()).await.map(|()| true)
}

async fn rebuild(agent: &Arc<Agent>, id: &AttachmentId) -> Result<bool, CniError> {
    let Some(_lock) = agent.locks.try_lock(id) else { return Ok(false) };
    let Some(record) = agent.record(id) else { return Ok(false) };
    if agent.netlink.link(&record.host_interface).await.map_err(Failure::from)?.is_some() {
        return Ok(false);
    }
    verbs::rebuild_veth(agent, record).await.map(|()| true)
}

/// Counts and logs each thing that it repairs.
async fn repair(
    agent: &Arc<Agent>,
    id: &AttachmentId,
    interface: &str,
    index: u32,
    missing: Vec<Repair>,
) -> Result<(), CniError> {
    let Some(_lock) = agent.locks.try_lock(id) else { return Ok(()) };
    let record = agent.record(id).filter(|record| record.host_ifindex == index);
    let Some(record) = record else { return Ok(()) };
    for repair in missing {
        let name = repair.name();
        add_missing(agent, &record, interface, index, repair).await?;
        report(agent, name, &id.to_string());
    }
    Ok(())
}

async fn add_missing(
    agent: &Agent,
    record: &AttachmentRecord,
    interface: &str,
    index: u32,
    repair: Repair,
) -> Result<(), Failure> {
    match repair {
        Repair::Up => agent.netlink.set_up(index).await?,
        Repair::HostMac => agent.netlink.set_mac(index, HOST_MAC).await?,
        Repair::PodGateway => restore_gateways(agent, record).await?,
        Repair::Label(alias) => agent.netlink.label_link(interface, labels::GROUP, &alias).await?,
        Repair::Route(route) => {
            allow_ipv6(interface, route.destination.addr());
            agent.netlink.replace_route(route).await?;
        }
        Repair::Neighbour(neighbour) => {
            allow_ipv6(interface, neighbour.address);
            agent.netlink.replace_neighbour(neighbour).await?;
        }
        Repair::Program(hook) => {
            let interface = Interface { name: interface, index };
            // What the other mode of attachment has left goes too: at the start it may have stayed behind a foreign filter.
            programs::take_over(&agent.netlink, &agent.datapath, hook, interface).await?;
        }
        Repair::MapEntry(address) => {
            agent.set_endpoint(address, index, record.pod_mac, PodOptions::of_record(record))?;
        }
    }
    Ok(())
}

/// Who switches IPv6 off at all interfaces switches it off at ours. Where that fails, so does what comes after it.
fn allow_ipv6(interface: &str, address: IpAddr) {
    if address.is_ipv6() {
        let _ = sysctl::write(&["net", "ipv6", "conf", interface, "disable_ipv6"], "0");
    }
}

/// Makes the gateways neighbours of the pod again, in its namespace.
async fn restore_gateways(agent: &Agent, record: &AttachmentRecord) -> Result<(), Failure> {
    let netns = Netns::open(&record.netns).map_err(EndpointError::from)?;
    let endpoint =
        Endpoint::of_record(record, agent.pool().primaries()).filter(|_| Some(netns.id()) == record.netns_id);
    let Some(endpoint) = endpoint else { return Ok(()) };
    let in_pod = Netlink::inside(&netns).await.map_err(EndpointError::from)?;
    let interface = endpoint::index_of(&in_pod, &endpoint.pod_interface).await?;
    for neighbour in endpoint.gateway_neighbours(interface) {
        in_pod.replace_neighbour(neighbour).await?;
    }
    Ok(())
}

fn describe(action: &Action) -> String {
    match action {
        Action::Release { id, why } => format!("{id}: {why}"),
        Action::RemoveLink { name, .. } => name.clone(),
        Action::Unpin { interface } => interface.clone(),
        Action::RemoveMapEntry { address } => address.to_string(),
        Action::DropLease { id } | Action::Rebuild { id } | Action::Repair { id, .. } => id.to_string(),
    }
}
