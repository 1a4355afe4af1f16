//! Reads which destinations the node's rules do something with, and publishes routes if they have changed.
//!
//! The rule: only a whole reading makes what is known fewer. What torn ones have seen is added, for a destination too many costs time only.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::agent::Agent;
use crate::freed_memory;
use crate::net::{RuleReading, RulesError, ServiceRules};
use crate::routing::Services;
use crate::verbs::{Failure, publish_routes};

/// What a pass has done.
pub(super) struct Pass {
    /// How long the longest of one attempt at reading, and the publication, took.
    pub took: Duration,
    /// What is in force is what the rules say. If not, a retry helps: the rules keep changing, or routes cannot be published.
    pub is_true: bool,
}

/// For the start, when nothing is known yet.
pub(crate) async fn read_services() -> Services {
    let services = Services::of(read().await.rules);
    match &services {
        Services::Known(ServiceRules { nftables, iptables }) => {
            tracing::info!(nftables = nftables.len(), iptables = iptables.len(), "destinations in the node's rules");
        }
        Services::Unknown(why) => tracing::error!(why, "the node's rules cannot be read"),
    }
    services
}

pub(super) async fn sync_services(agent: &Arc<Agent>) -> Pass {
    let RuleReading { rules, seen, took } = read().await;
    let is_torn = matches!(rules, Err(RulesError::Changing));
    agent.note_rules_torn(is_torn);
    let now = if is_torn { agent.services().clone().with(seen) } else { Services::of(rules) };
    let started = Instant::now();
    let published = put_in_force(agent, now).await;
    if let Err(error) = &published {
        tracing::error!(%error, "publishing routes after a change of the node's rules");
    }
    Pass { took: took.max(started.elapsed()), is_true: published.is_ok() && !is_torn }
}

/// Withholds from pods what rules translate. While they cannot be read, that is what was known before.
pub(crate) fn withhold_services(agent: &Agent) {
    let addresses = match &*agent.services() {
        Services::Known(rules) => rules.addresses().collect(),
        Services::Unknown(_) => return,
    };
    agent.leases.set_service_addresses(addresses);
}

async fn put_in_force(agent: &Agent, now: Services) -> Result<(), Failure> {
    let before = {
        let mut known = agent.services();
        if *known == now {
            return Ok(());
        }
        match &now {
            Services::Unknown(why) => tracing::error!(why, "the node's rules cannot be read"),
            Services::Known(ServiceRules { nftables, iptables }) => tracing::info!(
                nftables = nftables.len(),
                iptables = iptables.len(),
                "the destinations in the node's rules have changed; routes are published"
            ),
        }
        std::mem::replace(&mut *known, now)
    };
    // Before its route is the host's: no pod gets it any more.
    withhold_services(agent);
    if let Err(error) = publish_routes(agent).await {
        *agent.services() = before;
        return Err(error);
    }
    freed_memory::give_back();
    Ok(())
}

/// A panic of the reader is a reason to know nothing, and none to end.
async fn read() -> RuleReading {
    let read = tokio::task::spawn_blocking(ServiceRules::read).await;
    read.unwrap_or_else(|panic| RuleReading {
        rules: Err(RulesError::Unreadable(io::Error::other(panic))),
        seen: ServiceRules::default(),
        took: Duration::default(),
    })
}
