//! The CNI verbs, one file each, each read from top to bottom.

mod add;
mod build;
mod check;
mod del;
mod error;
mod faults;
mod gc;
mod rebuild;
mod status;
mod step;
mod steps;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{MutexGuard, PoisonError};

pub use add::add;
use azure_cni_api::cni::{AttachmentId, CniError};
use azure_cni_ipam::Addresses;
pub use check::check;
pub use del::del;
pub(crate) use del::detach;
pub use error::Failure;
pub use faults::Faults;
pub use gc::collect;
pub(crate) use rebuild::rebuild;
pub use status::status;
pub use step::Step;
pub use steps::Steps;
use tokio::sync::OwnedMutexGuard;

use crate::agent::Agent;
use crate::net::Netns;
use crate::state::AttachmentRecord;

/// The attachment's turn; whoever has it for too long makes the others come again.
async fn turn(agent: &Agent, id: &AttachmentId, steps: &mut Steps) -> Result<OwnedMutexGuard<()>, CniError> {
    let turn = steps.run(Step::Turn, async { Ok(agent.turns.wait_for(id).await) }).await;
    turn.map_err(|failure| {
        CniError::from(failure).with_details(format!("another call for attachment {id} is still at work"))
    })
}

/// The pod's namespace, which is not the agent's own.
fn open_pod_netns(path: &Path) -> Result<Netns, CniError> {
    let netns = Netns::open(path).map_err(|error| CniError::invalid_netns(error.to_string()))?;
    let own = Netns::own().map_err(|error| CniError::internal(error.to_string()))?;
    if netns.id() == own.id() {
        let text = format!("{} is the node's own network namespace: a pod needs one of its own", path.display());
        return Err(CniError::invalid_netns(text));
    }
    Ok(netns)
}

/// The pod's addresses; without an IPv4 address among them the record is not one of ours.
fn addresses_of(record: &AttachmentRecord) -> Result<Addresses, CniError> {
    Addresses::first_of_each(record.addresses.iter().copied())
        .ok_or_else(|| CniError::internal(format!("attachment {} has no IPv4 address", record.id)))
}

/// Publishes what all recorded attachments want to reach through the host, and where the Internet is.
pub(crate) async fn publish_routes(agent: &Agent) -> Result<(), Failure> {
    let _turn = agent.publishing.lock().await;
    publish(agent, via_host(agent)).await
}

/// Likewise after an attachment was recorded that wants to reach these through the host: most have been published for
/// others.
async fn publish_added(agent: &Agent, added: &[IpAddr]) -> Result<(), Failure> {
    let _turn = agent.publishing.lock().await;
    if added.iter().all(|address| published(agent).contains(address)) {
        return Ok(());
    }
    publish(agent, via_host(agent)).await
}

/// Likewise after the record of an attachment has gone that wanted to: most are wanted by others.
async fn publish_removed(agent: &Agent, removed: &[IpAddr]) -> Result<(), Failure> {
    if removed.is_empty() {
        return Ok(());
    }
    let _turn = agent.publishing.lock().await;
    let wanted = via_host(agent);
    if *published(agent) == wanted { Ok(()) } else { publish(agent, wanted).await }
}

fn published(agent: &Agent) -> MutexGuard<'_, BTreeSet<IpAddr>> {
    agent.via_host.lock().unwrap_or_else(PoisonError::into_inner)
}

fn via_host(agent: &Agent) -> BTreeSet<IpAddr> {
    agent.records().iter().flat_map(|record| record.via_host.iter().copied()).collect()
}

async fn publish(agent: &Agent, wanted: BTreeSet<IpAddr>) -> Result<(), Failure> {
    let next_hops = agent.netlink.next_hops(agent.uplink.index).await?;
    Ok(agent.publish_routes(&wanted, &next_hops)?)
}
