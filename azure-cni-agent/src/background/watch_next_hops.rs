//! Keeps the data path's gateways true: publishes routes whenever the uplink's next hops may have changed.

use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use futures::{FutureExt, StreamExt};

use super::pace;
use crate::agent::Agent;
use crate::net::Netlink;
use crate::verbs::publish_routes;

/// Changes that one publication is for, at most: so many chunks of so many.
const CHUNK: usize = 1024;
const CHUNKS: usize = 64;

/// Ends only if the kernel's stream of changes does.
pub(super) async fn watch_next_hops(agent: Arc<Agent>) {
    let changes = match Netlink::next_hop_changes(agent.uplink.index) {
        Ok(changes) => changes,
        Err(error) => {
            return tracing::error!(%error, "cannot watch the uplink's routes: a change takes effect only once other routes are published");
        }
    };
    let mut changes = pin!(changes.ready_chunks(CHUNK));
    while changes.next().await.is_some() {
        pace::settle().await;
        let mut left = CHUNKS;
        while left > 0 && changes.next().now_or_never().flatten().is_some() {
            left -= 1;
        }
        let started = Instant::now();
        if let Err(error) = publish_routes(&agent).await {
            tracing::error!(%error, "publishing routes after a change of the uplink's routes");
        }
        agent.node_watch.look_soon();
        pace::rest(started.elapsed()).await;
    }
}
