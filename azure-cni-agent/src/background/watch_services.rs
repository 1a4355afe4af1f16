//! Keeps what is known of services true, and what is shown of rules in the way of pods: reads the node's rules whenever they may have
//! changed.
//!
//! The rule: as for all that the kernel's messages call, see [`pace`].

use std::sync::Arc;
use std::time::Duration;

use super::pace;
use super::sync_hindrances::sync_hindrances;
use super::sync_services::sync_services;
use crate::agent::Agent;
use crate::net::{RuleChanges, RuleMarks};

/// How often it is asked whether rules have changed: legacy iptables sends no messages.
const POLL: Duration = Duration::from_secs(2);
/// Legacy rules that change without changing their size are found so many polls later.
const POLLS_PER_READING: u32 = 5;

/// Runs until the agent ends.
pub(super) async fn watch_services(agent: Arc<Agent>) {
    let mut changes = RuleChanges::subscribe()
        .inspect_err(
            |error| tracing::info!(%error, "no messages about nftables: changes of rules are found by a timer"),
        )
        .ok();
    // Whatever has changed since the start.
    let mut last = None;
    let mut polls = 0_u32;
    loop {
        // A reading says better what is wrong.
        let marks = tokio::task::spawn_blocking(RuleMarks::read).await.ok().and_then(Result::ok);
        let is_certain = marks.as_ref().is_some_and(RuleMarks::are_certain);
        polls += 1;
        if marks.is_none() || marks != last || (!is_certain && polls >= POLLS_PER_READING) {
            polls = 0;
            let services = sync_services(&agent).await;
            let hindrances = sync_hindrances(&agent).await;
            last = marks.filter(|_| services.is_true && hindrances.is_true);
            pace::rest(services.took + hindrances.took).await;
        }
        if tokio::time::timeout(POLL, changed(&mut changes)).await.is_ok() {
            pace::settle().await;
        }
    }
}

/// Never returns if there are no messages.
async fn changed(changes: &mut Option<RuleChanges>) {
    if let Some(messages) = changes {
        match messages.changed().await {
            Ok(()) => return,
            Err(error) => {
                tracing::error!(%error, "no more messages about nftables: changes of rules are found by a timer");
                *changes = None;
            }
        }
    }
    std::future::pending().await
}
