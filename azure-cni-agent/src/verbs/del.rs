//! DEL: removes everything of an attachment, also what is left of half of one. Goes on past errors and reports them.

use std::net::IpAddr;
use std::sync::Arc;

use azure_cni_api::cni::{AttachmentId, CniError, DelCall};
use azure_cni_api::names;
use azure_cni_datapath::Hook;

use super::failure::Failure;
use super::lock::lock;
use super::publish_routes::publish_removed;
use super::step_runner::StepRunner;
use crate::agent::Agent;
use crate::endpoint::{Endpoint, EndpointError};
use crate::net::{Netlink, Netns};
use crate::state::AttachmentRecord;
use crate::steps::Step;

/// Detaches a pod. Succeeds also for an attachment that is not there, any number of times.
pub async fn del(agent: &Arc<Agent>, call: DelCall, steps: &mut StepRunner) -> Result<(), CniError> {
    let _lock = lock(agent, &call.attachment, steps).await?;
    detach(agent, &call.attachment, steps).await
}

/// Does the work of [`del`]. The caller holds the attachment's lock.
///
/// The record goes first, durably. From then on there is no attachment: if the agent dies, its next start removes what is
/// left, as it removes everything of ours that no record names. If the record cannot be removed, nothing has changed. If
/// anything else cannot be removed, the lease stays, and the next DEL or reconciliation tries again.
pub(crate) async fn detach(agent: &Arc<Agent>, id: &AttachmentId, steps: &mut StepRunner) -> Result<(), CniError> {
    let removed = remove(agent, id, steps).await;
    steps.wait_for_overdue().await;
    removed
}

async fn remove(agent: &Arc<Agent>, id: &AttachmentId, steps: &mut StepRunner) -> Result<(), CniError> {
    let record = steps.run(Step::Observe, async { Ok(agent.record(id)) }).await?;
    let interface = names::host_interface(id);
    let addresses = addresses(agent, id, record.as_ref());

    // Also without a record: a write that failed may have left a file.
    let forgotten = {
        let (store, id, now) = (agent.store.clone(), id.clone(), agent.now());
        move || Ok(store.remove(&id, now).map(drop)?)
    };
    steps.run_blocking(Step::Forget, forgotten).await?;

    let mut failures: Vec<Failure> = Vec::new();
    let mut attempt = |result: Result<(), Failure>| failures.extend(result.err());
    // The data path comes first, so that it delivers nothing to half a pod.
    attempt(steps.run_blocking(Step::Unmap, for_each(agent, id, &addresses, unmap)).await);
    attempt(steps.run_blocking(Step::Detach, detached(agent, &interface)).await);
    // The pod's end, the routes and the neighbours go with it.
    let unlinked = async {
        agent.netlink.delete_link(&interface).await?;
        remove_rules(agent, record.as_ref()).await
    };
    attempt(steps.run(Step::Unlink, unlinked).await);
    attempt(steps.run_blocking(Step::Scrub, for_each(agent, id, &addresses, scrub)).await);
    let via_host = record.map(|record| record.via_host).unwrap_or_default();
    attempt(steps.run(Step::Unroute, publish_removed(agent, &via_host)).await);
    if let Some(failure) = combined(failures) {
        return Err(failure);
    }
    let released = async {
        agent.leases.release(id);
        Ok(())
    };
    Ok(steps.run(Step::Release, released).await?)
}

/// The attachment's addresses by its record, or by a lease that has no record.
fn addresses(agent: &Agent, id: &AttachmentId, record: Option<&AttachmentRecord>) -> Vec<IpAddr> {
    match record {
        Some(record) => record.addresses.clone(),
        None => {
            agent.leases.lease_of(id).into_iter().flat_map(|addresses| addresses.iter().collect::<Vec<_>>()).collect()
        }
    }
}

/// Removes the rules of an attachment with a table of its own: they are of the namespace, and do not go with an interface.
async fn remove_rules(agent: &Agent, record: Option<&AttachmentRecord>) -> Result<(), Failure> {
    let Some(record) = record.filter(|record| record.own_table) else { return Ok(()) };
    let Some(endpoint) = Endpoint::of_record(record, agent.pool().primaries()) else { return Ok(()) };
    // Gone, or another pod's by now.
    let Some(netns) = Netns::open(&record.netns).ok().filter(|netns| record.netns_id == Some(netns.id())) else {
        return Ok(());
    };
    let in_pod = Netlink::inside(&netns).await.map_err(EndpointError::from)?;
    for rule in endpoint.pod_rules() {
        in_pod.remove_rule(rule).await?;
    }
    Ok(())
}

/// Does the work for all addresses, also past failures. Returns the first failure.
fn for_each(
    agent: &Arc<Agent>,
    id: &AttachmentId,
    addresses: &[IpAddr],
    work: fn(&Agent, &AttachmentId, IpAddr) -> Result<(), Failure>,
) -> impl FnOnce() -> Result<(), Failure> + Send + 'static {
    let (agent, id, addresses) = (agent.clone(), id.clone(), addresses.to_vec());
    move || addresses.into_iter().map(|address| work(&agent, &id, address)).fold(Ok(()), Result::and)
}

fn detached(agent: &Arc<Agent>, interface: &str) -> impl FnOnce() -> Result<(), Failure> + Send + 'static {
    let (agent, interface) = (agent.clone(), interface.to_owned());
    move || {
        let detached = Hook::ENDPOINT.iter().map(|hook| agent.datapath.detach(*hook, &interface));
        Ok(detached.fold(Ok(()), Result::and)?)
    }
}

/// A record of an earlier boot has no lease: by now, another attachment may have its address.
fn unmap(agent: &Agent, id: &AttachmentId, address: IpAddr) -> Result<(), Failure> {
    let removed = agent.leases.unless_anothers(id, address, || agent.datapath.tables().remove_endpoint(address));
    Ok(removed.unwrap_or(Ok(()))?)
}

/// As with [`unmap`]; but a walk over all flows is too long to keep leases from others.
fn scrub(agent: &Agent, id: &AttachmentId, address: IpAddr) -> Result<(), Failure> {
    if agent.leases.is_anothers(id, address) {
        return Ok(());
    }
    Ok(agent.datapath.tables().scrub(address).map(drop)?)
}

fn combined(failures: Vec<Failure>) -> Option<CniError> {
    let texts: Vec<String> = failures.iter().map(ToString::to_string).collect();
    let first = failures.into_iter().next()?;
    Some(CniError::from(first).with_details(texts.join("; ")))
}
