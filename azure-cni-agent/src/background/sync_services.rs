//! Reads which destinations the node's rules do something with, and publishes routes if they have changed.

use std::io;
use std::sync::Arc;

use crate::agent::Agent;
use crate::freed_memory;
use crate::net::{RulesError, ServiceRules};
use crate::routing::Services;
use crate::verbs::publish_routes;

/// For the start, when nothing is known yet.
pub(crate) async fn read_services() -> Services {
    let services = Services::of(read().await);
    match &services {
        Services::Known(ServiceRules { nftables, iptables }) => {
            tracing::info!(nftables = nftables.len(), iptables = iptables.len(), "destinations in the node's rules");
        }
        Services::Unknown(why) => tracing::error!(why, "the node's rules cannot be read"),
    }
    services
}

/// Fails if the rules keep changing, or if routes cannot be published: what was known stays, and a retry helps.
pub(super) async fn sync_services(agent: &Arc<Agent>) -> anyhow::Result<()> {
    let read = match read().await {
        Err(RulesError::Unreadable(error)) if error.kind() == io::ErrorKind::Interrupted => return Err(error.into()),
        read => Services::of(read),
    };
    let before = {
        let mut known = agent.services();
        if *known == read {
            return Ok(());
        }
        match &read {
            Services::Unknown(why) => tracing::error!(why, "the node's rules cannot be read"),
            Services::Known(ServiceRules { nftables, iptables }) => tracing::info!(
                nftables = nftables.len(),
                iptables = iptables.len(),
                "the destinations in the node's rules have changed; routes are published"
            ),
        }
        std::mem::replace(&mut *known, read)
    };
    if let Err(error) = publish_routes(agent).await {
        *agent.services() = before;
        return Err(error.into());
    }
    freed_memory::give_back();
    Ok(())
}

/// A panic of the reader is a reason to know nothing, and none to end.
async fn read() -> Result<ServiceRules, RulesError> {
    let read = tokio::task::spawn_blocking(ServiceRules::read).await;
    read.unwrap_or_else(|panic| Err(RulesError::Unreadable(io::Error::other(panic))))
}
