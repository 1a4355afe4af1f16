//! Reconciles records, leases, the kernel and live namespaces: at the start, and then on a timer.
//!
//! The rule: what is recorded must stand; what is ours and not recorded must go. [`observe`] reads the state of the node,
//! [`plan`] decides, and each action checks again under the attachment's lock before it changes anything. An attachment
//! that a call works on is left to the call.

mod execute;
mod grace;
mod node_state;
mod observe;
mod plan;
mod recover_records;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod tests;

use std::sync::{Arc, PoisonError};
use std::time::Duration;

pub use grace::Grace;
pub use node_state::NodeState;
pub use observe::gone_with;
pub use plan::{Action, Repair};

use crate::agent::Agent;
use crate::net::RemovedLink;

/// At the start. No call works on anything, so there is no grace for what is gone. Programs are swapped for those of this
/// agent.
pub async fn at_start(agent: &Arc<Agent>) -> anyhow::Result<()> {
    recover_records::recover_if_lost(agent).await?;
    let state = observe::observe(agent, true).await?;
    remember(agent, &state);
    for (id, addresses) in state.to_restore() {
        agent.leases.restore(&id, addresses)?;
    }
    let actions = plan::plan(&state, &mut Grace::new(Duration::ZERO), agent.now());
    execute::execute_all(agent, actions).await;
    scrub_free_addresses(agent).await
}

/// While the agent serves. `grace` carries over from round to round what is gone, and since when.
pub async fn reconcile(agent: &Arc<Agent>, grace: &mut Grace) -> anyhow::Result<()> {
    let state = observe::observe(agent, false).await?;
    remember(agent, &state);
    let actions = plan::plan(&state, grace, agent.now());
    execute::execute_all(agent, actions).await;
    Ok(())
}

/// Keeps what others need to know of the last round.
fn remember(agent: &Agent, state: &NodeState) {
    agent.foreign_filters.set(state.foreign_filters.clone());
    *agent.pod_macs.lock().unwrap_or_else(PoisonError::into_inner) = state.pod_macs.clone();
}

/// Releases the attachments whose veths are among those that went, with their namespaces. Calls that work on one are left to it.
pub async fn release_gone_with(agent: &Arc<Agent>, removed: &[RemovedLink]) {
    let gone = observe::gone_with(agent, removed).into_iter();
    let releases = gone.map(|id| Action::Release { id, why: "its namespace is gone" }).collect();
    execute::execute_all(agent, releases).await;
}

/// Removes the flows of addresses that no pod has. An agent that died in a DEL may have left some, and the next pod with
/// the address would get their packets.
async fn scrub_free_addresses(agent: &Arc<Agent>) -> anyhow::Result<()> {
    let free = agent.leases.free();
    let agent = agent.clone();
    tokio::task::spawn_blocking(move || agent.datapath.tables().scrub_all(|address| free.contains(&address))).await??;
    Ok(())
}
