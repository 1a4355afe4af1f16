//! Brings records, leases, kernel and live namespaces into line: at the start, and then again and again.
//!
//! The rule: what is recorded is to stand, and what stands unrecorded is not to be, if it is ours. A look at the node says
//! what there is, [`plan`] decides, and each action looks again, with the attachment's turn, before it changes anything:
//! an attachment that a call works on is left to the call.

mod act;
mod grace;
mod observe;
mod plan;
mod rebuild;
mod seen;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use grace::Grace;
pub use plan::{Action, Repair};
pub use seen::Seen;

use crate::agent::Agent;

/// How often each kind of action was carried out since the agent started; those that failed are not counted.
pub type Counters = BTreeMap<&'static str, u64>;

/// At the start: nobody else works on anything, so what is gone is gone; and programs are swapped for those of this agent.
pub async fn at_start(agent: &Arc<Agent>) -> anyhow::Result<()> {
    rebuild::records_if_lost(agent).await?;
    let seen = observe::look(agent, true).await?;
    agent.foreign_filters.set(seen.foreign_filters.clone());
    for (id, addresses) in seen.to_restore() {
        agent.restore_lease(&id, addresses)?;
    }
    let actions = plan::plan(&seen, &mut Grace::new(Duration::ZERO), agent.now());
    act::carry_out(agent, actions).await;
    forget_flows_of_nobody(agent).await
}

/// Runs until the agent ends. A round that fails is logged; the next one tries again.
pub async fn keep_in_line(agent: Arc<Agent>) {
    let config = &agent.config.reconcile;
    let mut grace = Grace::new(Duration::from_secs(config.grace_secs));
    let mut rounds = tokio::time::interval(Duration::from_secs(config.interval_secs));
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The first comes at once, and the start has just done it.
    rounds.tick().await;
    loop {
        rounds.tick().await;
        match observe::look(&agent, false).await {
            Ok(seen) => {
                agent.foreign_filters.set(seen.foreign_filters.clone());
                let actions = plan::plan(&seen, &mut grace, agent.now());
                act::carry_out(&agent, actions).await;
            }
            Err(error) => tracing::error!(error = format!("{error:#}"), "looking for what is out of line"),
        }
    }
}

/// An agent that died in a DEL may have left flows of the pod's address, and the next pod that has it would get their
/// packets.
async fn forget_flows_of_nobody(agent: &Arc<Agent>) -> anyhow::Result<()> {
    let free = agent.free_addresses();
    let agent = agent.clone();
    tokio::task::spawn_blocking(move || agent.datapath.tables().scrub_all(|address| free.contains(&address))).await??;
    Ok(())
}
