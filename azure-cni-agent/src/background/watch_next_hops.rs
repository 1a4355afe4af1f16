//! Keeps the data path's gateways true: publishes routes whenever the uplink's next hops may have changed.

use std::pin::pin;
use std::sync::Arc;

use futures::StreamExt;

use crate::agent::Agent;
use crate::net::Netlink;
use crate::verbs::publish_routes;

/// Ends only if the kernel's stream of changes does.
pub(super) async fn watch_next_hops(agent: Arc<Agent>) {
    let changes = match Netlink::next_hop_changes(agent.uplink.index) {
        Ok(changes) => changes,
        Err(error) => {
            return tracing::error!(%error, "cannot watch the uplink's routes: a change takes effect only once other routes are published");
        }
    };
    // Changes that come together cost one publication.
    let mut changes = pin!(changes.ready_chunks(1024));
    while changes.next().await.is_some() {
        if let Err(error) = publish_routes(&agent).await {
            tracing::error!(%error, "publishing routes after a change of the uplink's routes");
        }
        agent.node_watch.look_soon();
    }
}
