//! Publishes routes whenever the node's own routes lead another prefix elsewhere than to the uplink, or one less.

use std::pin::pin;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use futures::StreamExt;

use super::pace;
use crate::agent::Agent;
use crate::net::{ElsewhereChange, Netlink};
use crate::verbs::{elsewhere, publish_routes};

/// Ends only if the kernel's stream of changes does; then the sync of all routes finds them.
pub(super) async fn watch_elsewhere(agent: Arc<Agent>) {
    let changes = match Netlink::elsewhere_changes(agent.uplink.index) {
        Ok(changes) => changes,
        Err(error) => return tracing::error!(%error, "cannot watch the node's routes: changes are found by a timer"),
    };
    let mut changes = pin!(changes.ready_chunks(1024));
    while let Some(changed) = changes.next().await {
        if changed.iter().all(|change| is_of_pod(&agent, *change)) {
            continue;
        }
        pace::settle().await;
        let started = Instant::now();
        if let Err(error) = sync_elsewhere(&agent).await {
            tracing::error!(error = format!("{error:#}"), "publishing routes after a change of the node's routes");
        }
        pace::rest(started.elapsed()).await;
    }
}

/// Pods come and go with routes of their own.
fn is_of_pod(agent: &Agent, change: ElsewhereChange) -> bool {
    let ElsewhereChange::Route(prefix) = change else { return false };
    prefix.prefix_len() == prefix.max_prefix_len() && agent.pool().addresses().any(|address| address == prefix.addr())
}

async fn sync_elsewhere(agent: &Agent) -> anyhow::Result<()> {
    let now = elsewhere(agent).await?;
    if *agent.elsewhere.lock().unwrap_or_else(PoisonError::into_inner) == now {
        return Ok(());
    }
    tracing::info!(prefixes = now.len(), "the node's routes elsewhere have changed; routes are published");
    Ok(publish_routes(agent).await?)
}
