//! Releases the attachments of namespaces that went without a DEL, as soon as the kernel has removed their veths: a runtime that tries
//! a failing pod again and again would otherwise take a new address each time.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;

use crate::agent::Agent;
use crate::net::{Netlink, RemovedLink};
use crate::reconcile;

/// Ends only if the kernel's stream of changes does. What the stream misses, the next round of the reconciler finds.
pub(super) async fn watch_removed_veths(agent: Arc<Agent>) {
    let removals = match Netlink::removed_links() {
        Ok(removals) => removals,
        Err(error) => {
            return tracing::error!(%error, "cannot watch interfaces: addresses of pods that went without a DEL come back later");
        }
    };
    let mut removals = pin!(removals.ready_chunks(1024));
    while let Some(removed) = removals.next().await {
        // A DEL has removed the record by then, so this is rare.
        let gone = reconcile::gone_with(&agent, &removed);
        if !gone.is_empty() {
            tokio::spawn(release_after_grace(agent.clone(), removed));
        }
    }
}

async fn release_after_grace(agent: Arc<Agent>, removed: Vec<RemovedLink>) {
    tokio::time::sleep(Duration::from_secs(agent.config.reconcile.grace_secs)).await;
    reconcile::release_gone_with(&agent, &removed).await;
}
