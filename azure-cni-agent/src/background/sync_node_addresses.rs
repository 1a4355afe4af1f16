//! Publishes routes when the node gets or loses an address: a pod's packet to an address of the node goes up the host's
//! stack, and no pod gets an address that the node has.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

use crate::agent::Agent;
use crate::node;
use crate::verbs::publish_routes;

pub(super) async fn sync_node_addresses(agent: &Arc<Agent>) -> anyhow::Result<()> {
    let now: BTreeSet<_> = node::own_addresses(&agent.netlink).await?.into_iter().collect();
    // Also if nothing has changed: an ADD may have found an address there that has gone since.
    agent.leases.set_host_addresses(now.clone());
    {
        let mut published = agent.node_addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if *published == now {
            return Ok(());
        }
        *published = now;
    }
    publish_routes(agent).await?;
    tracing::info!("the node's addresses have changed; routes are published");
    Ok(())
}
