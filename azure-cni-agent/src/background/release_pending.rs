//! Delivers pending releases to azure-cns in the background, until each is taken.

use std::sync::Arc;
use std::time::Duration;

use azure_cni_ipam::{PollOutcome, Schedule};

use crate::agent::Agent;
use crate::leases::deliver_releases;

/// Runs until the agent ends.
pub(super) async fn release_pending(agent: Arc<Agent>) {
    let Some(cns) = agent.leases.cns() else { return };
    let config = &agent.config.pool;
    let [min, max] = [config.refresh_min_secs, config.refresh_max_secs].map(Duration::from_secs);
    let mut schedule = Schedule::new(min, max, agent.now());
    loop {
        let outcome = match deliver_releases(&agent.leases, &agent.locks).await {
            Ok(()) => PollOutcome::Quiet,
            Err(error) => {
                tracing::warn!(%error, "a release at azure-cns is pending; trying again");
                cns.failed(&error);
                PollOutcome::AskSoon
            }
        };
        schedule.polled(outcome, agent.now(), fastrand::f64());
        let pause = schedule.due().saturating_sub(agent.now());
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = cns.wait_for_release() => {}
        }
    }
}
