//! Follows the source in the background: what it lists becomes the pool, and routes and endpoints come along.

use std::net::IpAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use azure_cni_ipam::{Change, PollOutcome, Pool, Schedule};

use super::{SourceError, ask};
use crate::agent::Agent;
use crate::commands::publish_routes;
use crate::config::PoolSource;
use crate::routing::follow_endpoints;

/// How many addresses a line of the log names.
const NAMED: usize = 16;

/// Runs until the agent ends.
pub async fn follow_source(agent: Arc<Agent>) {
    let (mut schedule, chance) = match agent.config.pool.source {
        // It lists nothing that could be followed.
        PoolSource::Cns => return,
        // Reading a file costs nothing, and whoever edits one wants to see it work.
        PoolSource::File => (schedule(&agent, agent.config.pool.refresh_min_secs), false),
        PoolSource::WireServer | PoolSource::Imds => (schedule(&agent, agent.config.pool.refresh_max_secs), true),
    };
    loop {
        let pause = schedule.due().saturating_sub(agent.now());
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = agent.source.needed.notified() => {
                schedule.hurry();
                continue;
            }
        }
        let outcome = look(&agent).await;
        schedule.polled(outcome, agent.now(), if chance { fastrand::f64() } else { 0.0 });
    }
}

fn schedule(agent: &Agent, max_secs: u64) -> Schedule {
    let min = Duration::from_secs(agent.config.pool.refresh_min_secs);
    Schedule::new(min, Duration::from_secs(max_secs), agent.now())
}

async fn look(agent: &Arc<Agent>) -> PollOutcome {
    match ask(&agent.config.pool, &agent.uplink).await {
        Ok(listed) => take(agent, listed).await,
        Err(error) => {
            failed(agent, &error);
            PollOutcome::AskSoon
        }
    }
}

fn failed(agent: &Agent, error: &SourceError) {
    if agent.source.health().failed(error.to_string()) {
        tracing::warn!(%error, "the known addresses stay in use");
    } else {
        tracing::debug!(%error, "the known addresses stay in use, still");
    }
}

async fn take(agent: &Arc<Agent>, listed: Pool) -> PollOutcome {
    let (known, now) = (agent.pool(), super::unix_secs());
    if listed.primaries() != known.primaries() {
        // What the programs were loaded with: neither translation nor the check of the node holds for another.
        let why = format!(
            "{} lists other primary addresses for uplink {} ({}) than the agent was started with ({}); the known pool \
             stays in use until the agent is restarted",
            agent.source.origin,
            agent.uplink.name,
            joined(listed.primaries().iter()),
            joined(known.primaries().iter()),
        );
        if agent.source.health().cannot_follow(why.clone()) {
            tracing::error!("{why}");
        }
        return PollOutcome::Quiet;
    }
    {
        let mut health = agent.source.health();
        health.succeeded(now);
        health.follows();
    }
    let change = Change::between(&known, &listed);
    let changed = listed != *known;
    if changed || agent.source.is_kept_too_long(now) {
        agent.source.keep(&agent.config, &agent.uplink, &listed, now);
    }
    if changed {
        replace(agent, listed, &change).await;
    }
    if changed || agent.is_out_of_addresses() { PollOutcome::AskSoon } else { PollOutcome::Quiet }
}

async fn replace(agent: &Arc<Agent>, listed: Pool, change: &Change) {
    let withheld = listed.withheld.clone();
    agent.replace_pool(listed);
    agent.source.health().changes += 1;
    tracing::info!(
        source = %agent.source.origin,
        came = change.added.len(),
        gone = change.removed.len(),
        new = joined(change.added.iter().copied()),
        lost = joined(change.removed.iter().copied()),
        "the pool has changed"
    );
    super::report_withheld(&withheld);
    if change.subnets {
        report("publishing routes", publish_routes(agent).await.map_err(Into::into));
    }
    if change.became_dual_stack {
        report("making the platform's gateway a neighbour", agent.settle_gateway().await);
    }
    if change.public {
        report("following the egress of endpoints", follow_endpoints(agent).await);
    }
}

fn report(what: &'static str, result: anyhow::Result<()>) {
    if let Err(error) = result {
        tracing::error!(error = format!("{error:#}"), "{what} after the pool has changed");
    }
}

fn joined(addresses: impl Iterator<Item = IpAddr>) -> String {
    let mut addresses = addresses.map(|address| address.to_string());
    let mut named: Vec<_> = addresses.by_ref().take(NAMED).collect();
    if addresses.next().is_some() {
        named.push("...".to_owned());
    }
    named.join(" ")
}

impl Agent {
    /// From the next lease on, pods get what this pool lists; what they hold stays theirs.
    pub(crate) fn replace_pool(&self, pool: Pool) {
        let addresses: Vec<IpAddr> = pool.addresses().collect();
        *self.pool.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(pool);
        self.set_leasable(addresses);
        self.follow_public_addresses();
    }
}
