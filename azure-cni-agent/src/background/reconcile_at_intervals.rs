//! Reconciles records, leases and the kernel on a timer.

use std::sync::Arc;
use std::time::Duration;

use crate::agent::Agent;
use crate::reconcile::{Grace, reconcile};

/// Runs until the agent ends.
pub(super) async fn reconcile_at_intervals(agent: Arc<Agent>) {
    let config = &agent.config.reconcile;
    let mut grace = Grace::new(Duration::from_secs(config.grace_secs));
    let mut rounds = tokio::time::interval(Duration::from_secs(config.interval_secs));
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The first tick comes at once, and the start has just reconciled.
    rounds.tick().await;
    loop {
        tokio::select! {
            _ = rounds.tick() => {}
            () = agent.node_watch.hurried() => {}
        }
        if let Err(error) = reconcile(&agent, &mut grace).await {
            tracing::error!(error = format!("{error:#}"), "reconciling records, leases and the kernel");
        }
    }
}
