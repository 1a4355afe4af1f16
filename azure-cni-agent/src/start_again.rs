//! From one start to the next without the end of the process: for what the programs know from their load on, such as the uplink.
//!
//! The rule: it is a restart as an operator would make it. Calls that have begun come to their end, callers wait, the data path goes on
//! with what it has, and the new agent takes over what the old one leaves in kernel and store.

use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;

use crate::agent::{Agent, ReconcileCounts};
use crate::config::AgentConfig;
use crate::presence::Presence;
use crate::start;

/// A start that failed is tried again after this long.
const RETRY_PAUSE: Duration = Duration::from_secs(2);
/// How often the agent looks whether the last call has ended.
const RELEASE_POLL: Duration = Duration::from_millis(5);

/// What the next agent has from the one before, beside kernel and store.
struct Inheritance {
    config: AgentConfig,
    repairs: ReconcileCounts,
}

/// Ends an agent whose background tasks have ended, and starts the next one, however often that takes. Fails if calls do not end
/// within `limit`.
pub async fn start_again(
    presence: &Presence,
    agent: Arc<Agent>,
    why: String,
    limit: Duration,
) -> anyhow::Result<Arc<Agent>> {
    presence.leave(why);
    let inheritance = match tokio::time::timeout(limit, released(agent)).await {
        Ok(agent) => Inheritance { config: agent.config_in_force(), repairs: agent.take_repairs() },
        Err(_) => bail!("cannot start again: calls have not ended within {limit:?}"),
    };
    loop {
        match start::start(inheritance.config.clone()).await {
            Ok(agent) => {
                agent.inherit_repairs(inheritance.repairs);
                agent.count_repair("agent-started-again");
                presence.enter(agent.clone());
                return Ok(agent);
            }
            Err(error) => {
                let error = format!("{error:#}");
                if presence.absence().as_ref() != Some(&error) {
                    tracing::error!(error, "cannot start again; trying until it works");
                }
                presence.fail(error);
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }
}

/// The agent, once no call and no task has it any more. Its locks end with it.
async fn released(mut agent: Arc<Agent>) -> Agent {
    loop {
        match Arc::try_unwrap(agent) {
            Ok(agent) => return agent,
            Err(shared) => agent = shared,
        }
        tokio::time::sleep(RELEASE_POLL).await;
    }
}
