//! Polls the source: what it lists becomes the pool, and then routes and endpoints are updated.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use azure_cni_ipam::{Change, PollOutcome, Pool, Schedule};

use super::sync_endpoints::sync_endpoints;
use crate::agent::Agent;
use crate::source::{Kind, SourceError, fetch_pool, report_left_out};
use crate::verbs::{publish_routes, set_platform_gateway};
use crate::wall_clock::unix_secs;

/// How many addresses a line of the log names.
const MAX_LOGGED: usize = 16;

/// Runs until the agent ends.
pub(super) async fn poll_source(agent: Arc<Agent>) {
    let (mut schedule, chance) = match agent.source.origin.kind {
        // azure-cns lists no addresses: it gives each attachment its own.
        Kind::Cns => return,
        // Reading a file costs nothing, and an operator who edits it wants to see the effect soon.
        Kind::File => (schedule(&agent, agent.config.pool.refresh_min_secs), false),
        Kind::WireServer | Kind::Imds => (schedule(&agent, agent.config.pool.refresh_max_secs), true),
    };
    loop {
        let pause = schedule.due().saturating_sub(agent.now());
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = agent.source.hurried() => {
                schedule.hurry();
                continue;
            }
        }
        let outcome = sync_pool(&agent).await;
        schedule.polled(outcome, agent.now(), if chance { fastrand::f64() } else { 0.0 });
    }
}

fn schedule(agent: &Agent, max_secs: u64) -> Schedule {
    let min = Duration::from_secs(agent.config.pool.refresh_min_secs);
    Schedule::new(min, Duration::from_secs(max_secs), agent.now())
}

async fn sync_pool(agent: &Arc<Agent>) -> PollOutcome {
    match fetch_pool(&agent.config.pool, agent.source.origin.kind, &agent.uplink).await {
        Ok(listed) => apply(agent, listed).await,
        Err(error) => {
            report_failure(agent, &error);
            PollOutcome::AskSoon
        }
    }
}

fn report_failure(agent: &Agent, error: &SourceError) {
    if agent.source.health().failed(error.to_string()) {
        tracing::warn!(%error, "the last confirmed addresses stay in use");
    } else {
        tracing::debug!(%error, "the last confirmed addresses stay in use, still");
    }
}

async fn apply(agent: &Arc<Agent>, listed: Pool) -> PollOutcome {
    let (current, now) = (agent.pool(), unix_secs());
    // The programs were loaded with the primary addresses, and the node was checked for them and for pods with IPv6.
    let has_ipv6 = current.is_dual_stack() && agent.datapath.has_ipv6();
    let takes_a_start = listed.primaries() != current.primaries() || (listed.is_dual_stack() && !has_ipv6);
    agent.node_watch.set_listed(takes_a_start.then(|| listed.clone()));
    if takes_a_start {
        let why = format!(
            "{} lists other primary addresses for uplink {} ({}) than the agent was started with ({}), or IPv6 for the first \
             time; the pool in use stays until the uplink has them, and the agent starts again by itself",
            agent.source.origin,
            agent.uplink.name,
            joined(listed.primaries().iter()),
            joined(current.primaries().iter()),
        );
        if agent.source.health().cannot_apply(why.clone()) {
            tracing::error!("{why}");
        }
        return PollOutcome::Quiet;
    }
    {
        let mut health = agent.source.health();
        health.succeeded(now);
        health.applied();
    }
    let change = Change::between(&current, &listed);
    let changed = listed != *current;
    if changed || agent.source.stored_pool_is_old(now) {
        agent.source.store_pool(&agent.config, &agent.uplink, &listed, now);
    }
    if changed {
        replace_pool(agent, listed, &change).await;
    }
    if changed || agent.leases.is_exhausted() { PollOutcome::AskSoon } else { PollOutcome::Quiet }
}

async fn replace_pool(agent: &Arc<Agent>, listed: Pool, change: &Change) {
    agent.leases.replace_pool(listed);
    agent.sync_public_addresses();
    agent.source.health().changes += 1;
    tracing::info!(
        source = %agent.source.origin,
        came = change.added.len(),
        gone = change.removed.len(),
        new = joined(change.added.iter().copied()),
        lost = joined(change.removed.iter().copied()),
        "the pool has changed"
    );
    report_left_out(&agent.pool(), &agent.leases.withheld());
    if change.subnets || !change.added.is_empty() || !change.removed.is_empty() {
        report("publishing routes", publish_routes(agent).await.map_err(Into::into));
    }
    if change.became_dual_stack {
        report("making the platform's gateway a neighbour", set_platform_gateway(agent).await.map_err(Into::into));
    }
    if change.public {
        report("syncing the egress of endpoints", sync_endpoints(agent).await);
    }
}

fn report(what: &'static str, result: anyhow::Result<()>) {
    if let Err(error) = result {
        tracing::error!(error = format!("{error:#}"), "{what} after the pool has changed");
    }
}

fn joined(addresses: impl Iterator<Item = IpAddr>) -> String {
    let mut addresses = addresses.map(|address| address.to_string());
    let mut named: Vec<_> = addresses.by_ref().take(MAX_LOGGED).collect();
    if addresses.next().is_some() {
        named.push("...".to_owned());
    }
    named.join(" ")
}
