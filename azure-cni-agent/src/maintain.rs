//! What the agent does on its own account, again and again: give memory back, notice what has changed on the node.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use azure_cni_datapath::{SweepReport, Sweeper};

use crate::agent::Agent;
use crate::events::follow_events;
use crate::host_ports::follow_host_ports;
use crate::node;
use crate::reconcile::keep_in_line;
use crate::release_pending::release_pending;
use crate::routing::{follow_endpoints, follow_gateways, follow_masq_dir};
use crate::source::follow_source;
use crate::verbs::{publish_routes, spool};

const INTERVAL: Duration = Duration::from_secs(10);

/// Runs until the agent ends. A round that fails is logged; the next one tries again.
pub async fn maintain(agent: Arc<Agent>) {
    tokio::join!(
        sweep(agent.clone()),
        follow_events(agent.clone()),
        follow_gateways(agent.clone()),
        keep_in_line(agent.clone()),
        follow_source(agent.clone()),
        release_pending(agent.clone()),
        follow(agent)
    );
}

async fn follow(agent: Arc<Agent>) {
    let mut rounds = tokio::time::interval(INTERVAL);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        report("following the node's addresses", follow_addresses(&agent).await);
        report("following the host's ports", follow_host_ports(&agent).await);
        report("following routing.masq_dir", follow_masq_dir(&agent).await);
        report("following the egress of endpoints", follow_endpoints(&agent).await);
        report("carrying out requests in the spool", follow_spool(&agent).await);
    }
}

fn report(what: &'static str, result: anyhow::Result<()>) {
    if let Err(error) = result {
        tracing::error!(error = format!("{error:#}"), "{what}");
    }
}

async fn sweep(agent: Arc<Agent>) {
    let mut sweeper = Sweeper::default();
    loop {
        let agent = agent.clone();
        let step = tokio::task::spawn_blocking(move || {
            let report = agent.datapath.tables().sweep(&mut sweeper, monotonic_ns());
            (report, sweeper)
        });
        // A panic is a fault of the sweep alone: it begins anew.
        let (report, next) = match step.await {
            Ok((report, sweeper)) => (report, sweeper),
            Err(panic) => {
                tracing::error!(%panic, "sweeping expired flows");
                (Ok(SweepReport::default()), Sweeper::default())
            }
        };
        sweeper = next;
        let report = report.unwrap_or_else(|error| {
            tracing::error!(%error, "sweeping expired flows");
            SweepReport::default()
        });
        if report.removed_flows + report.removed_translations > 0 {
            let SweepReport { removed_flows, removed_translations, fill } = report;
            tracing::debug!(flows = removed_flows, translations = removed_translations, fill, "swept");
        }
        tokio::time::sleep(report.pause()).await;
    }
}

/// A pod's packet to an address of the node goes up the stack, also to one that the node has got since.
async fn follow_addresses(agent: &Arc<Agent>) -> anyhow::Result<()> {
    let now = node::own_addresses(&agent.netlink).await?.into_iter().collect();
    {
        let mut known = agent.node_addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if *known == now {
            return Ok(());
        }
        *known = now;
    }
    publish_routes(agent).await?;
    tracing::info!("the node's addresses have changed; routes follow");
    Ok(())
}

/// A plugin may have found no agent a moment before this one listened.
async fn follow_spool(agent: &Arc<Agent>) -> anyhow::Result<()> {
    spool::sweep(agent).await?;
    Ok(())
}

/// The clock of the data path's expiry times.
fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid pointer to a timespec, for the length of the call.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
