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

pub use add::add;
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

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use tokio::sync::OwnedMutexGuard;

use crate::agent::Agent;
use crate::cni::{AttachmentId, CniError};
use crate::ipam::Addresses;
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

/// Publishes what all recorded attachments want to reach through the host.
pub(crate) async fn publish_routes(agent: &Agent) -> Result<(), Failure> {
    let _turn = agent.publishing.lock().await;
    let wanted: BTreeSet<IpAddr> =
        agent.records().await?.iter().flat_map(|record| record.via_host.iter().copied()).collect();
    let next_hops = agent.netlink.next_hops(agent.uplink.index).await?;
    Ok(agent.publish_routes(&wanted, &next_hops)?)
}
