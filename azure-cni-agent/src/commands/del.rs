//! DEL: takes everything of an attachment away, also what is left of half of one. Goes on past errors and reports them.

use std::net::IpAddr;
use std::sync::Arc;

use super::error::Failure;
use super::publish_routes;
use super::step::DelStep;
use crate::agent::Agent;
use crate::cni::{AttachmentId, CniError, DelCall};
use crate::datapath::Hook;
use crate::endpoint;
use crate::state::AttachmentRecord;

/// Detaches a pod. Succeeds for what is not there, and any number of times.
pub async fn del(agent: &Arc<Agent>, call: DelCall) -> Result<(), CniError> {
    let _turn = agent.turns.wait_for(&call.attachment).await;
    detach(agent, &call.attachment).await
}

/// The work of [`del`], for a caller that has the attachment's turn.
///
/// The record goes first, durably: from then on the attachment is not, and an agent that dies in between removes at its
/// next start what is left, as it does with all that no record names. If the record cannot be removed nothing has
/// changed. If something else could not be removed the lease stays, and the next DEL or reconciliation tries again.
pub(crate) async fn detach(agent: &Agent, id: &AttachmentId) -> Result<(), CniError> {
    let faults = agent.faults;
    let wanted = id.clone();
    let record = agent.with_store(move |store| store.get(&wanted)).await.map_err(Failure::from)?;
    let interface = endpoint::host_interface(id);
    let addresses = addresses(agent, id, record.as_ref());
    if record.is_some() {
        let (forgotten, now) = (id.clone(), agent.moment());
        agent.with_store(move |store| store.remove(&forgotten, &now)).await.map_err(Failure::from)?;
    }
    faults.after_del(DelStep::Record);

    let mut failures: Vec<Failure> = Vec::new();
    let mut attempt = |result: Result<(), Failure>| failures.extend(result.err());
    // First out of the data path, so that nothing is delivered to half a pod.
    for address in &addresses {
        attempt(agent.datapath.tables().remove_endpoint(*address).map_err(Failure::from));
    }
    faults.after_del(DelStep::Maps);
    for hook in Hook::ENDPOINT {
        attempt(agent.datapath.detach(hook, &interface).map_err(Failure::from));
    }
    faults.after_del(DelStep::Programs);
    // The pod's end, the routes and the neighbours go with it.
    attempt(agent.netlink.delete_link(&interface).await.map_err(Failure::from));
    faults.after_del(DelStep::Veth);
    for address in &addresses {
        let scrubbed = tokio::task::block_in_place(|| agent.datapath.tables().scrub(*address));
        attempt(scrubbed.map(|_| ()).map_err(Failure::from));
    }
    faults.after_del(DelStep::Scrub);
    if record.is_some_and(|record| !record.via_host.is_empty()) {
        attempt(publish_routes(agent).await);
    }
    faults.after_del(DelStep::Routes);
    if let Some(failure) = combined(failures) {
        return Err(failure);
    }
    agent.release(id).await;
    faults.after_del(DelStep::Lease);
    Ok(())
}

/// What the attachment holds by its record, or by a lease that has no record.
fn addresses(agent: &Agent, id: &AttachmentId, record: Option<&AttachmentRecord>) -> Vec<IpAddr> {
    match record {
        Some(record) => record.addresses.clone(),
        None => agent.lease_of(id).into_iter().flat_map(|addresses| addresses.iter().collect::<Vec<_>>()).collect(),
    }
}

fn combined(failures: Vec<Failure>) -> Option<CniError> {
    let texts: Vec<String> = failures.iter().map(ToString::to_string).collect();
    let first = failures.into_iter().next()?;
    Some(CniError::from(first).with_details(texts.join("; ")))
}
