//! The tasks that the agent runs on its own: on a timer, on a stream of the kernel, or on SIGHUP. One file each.
//!
//! The rule: `watch_*` reads a stream until the agent ends, `sync_*` makes one pass that brings the data path in line with what
//! it finds. A pass that fails is logged, and the next one tries again.

mod drain_spool;
mod pace;
mod reconcile_at_intervals;
mod release_pending;
mod reload;
mod sweep_tables;
mod sync_conflist;
mod sync_endpoints;
mod sync_hindrances;
mod sync_host_ports;
mod sync_masq_dir;
mod sync_node_addresses;
mod sync_pool;
mod sync_services;
mod watch_elsewhere;
mod watch_next_hops;
mod watch_node;
mod watch_refusals;
mod watch_removed_veths;
mod watch_services;

use std::sync::Arc;
use std::time::Duration;

pub(crate) use drain_spool::drain_spool;
pub use reload::reload;
pub(crate) use sync_endpoints::sync_endpoints;
pub(crate) use sync_host_ports::sync_host_ports;
pub(crate) use sync_services::{read_services, withhold_services};

use crate::agent::Agent;
use crate::verbs::publish_routes;

const INTERVAL: Duration = Duration::from_secs(10);

/// Runs every task until the agent ends.
pub async fn run(agent: Arc<Agent>) {
    tokio::join!(
        sweep_tables::sweep_tables(agent.clone()),
        watch_refusals::watch_refusals(agent.clone()),
        watch_next_hops::watch_next_hops(agent.clone()),
        watch_elsewhere::watch_elsewhere(agent.clone()),
        watch_node::watch_node(agent.clone()),
        watch_services::watch_services(agent.clone()),
        reconcile_at_intervals::reconcile_at_intervals(agent.clone()),
        watch_removed_veths::watch_removed_veths(agent.clone()),
        sync_conflist::sync_conflist(agent.clone()),
        sync_pool::poll_source(agent.clone()),
        release_pending::release_pending(agent.clone()),
        sync_at_intervals(agent)
    );
}

async fn sync_at_intervals(agent: Arc<Agent>) {
    let mut rounds = tokio::time::interval(INTERVAL);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        report("syncing the node's addresses", sync_node_addresses::sync_node_addresses(&agent).await);
        report("syncing the host's ports", sync_host_ports(&agent).await);
        report("syncing routing.masq_dir", sync_masq_dir::sync_masq_dir(&agent).await);
        report("syncing routes", publish_routes(&agent).await.map_err(Into::into));
        report("syncing the egress of endpoints", sync_endpoints(&agent).await);
        report("executing the requests in the spool", drain_spool(&agent).await.map(drop).map_err(Into::into));
    }
}

fn report(what: &'static str, result: anyhow::Result<()>) {
    if let Err(error) = result {
        tracing::error!(error = format!("{error:#}"), "{what}");
    }
}
