//! Asks the plugins of the conflist for their versions at intervals: a distribution's upgrade may change them.

use std::sync::Arc;
use std::time::Duration;

use crate::agent::Agent;
use crate::conflist::{self, Absent};

const INTERVAL: Duration = Duration::from_secs(60);

/// Runs until the agent ends.
pub(super) async fn sync_conflist(agent: Arc<Agent>) {
    let mut rounds = tokio::time::interval(INTERVAL);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The first tick comes at once, and the start has just asked.
    rounds.tick().await;
    loop {
        rounds.tick().await;
        conflist::sync(&agent, Absent::Leave).await;
    }
}
