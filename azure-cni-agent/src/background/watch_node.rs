//! Watches the node for changes of what the programs were loaded for: the uplink, its MTU, its addresses, its routes and the programs
//! at it. The kernel's messages tell when to look; a timer is the net under them.
//!
//! The rule: a change that only a start can apply is seen twice before the agent starts again, so that a DHCP client can finish its
//! work, and the start is tried on paper first: an agent that could not start again goes on, and says why.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use azure_cni_datapath::{Attachment, Hook};
use futures::{Stream, StreamExt};

use super::sync_node_addresses::sync_node_addresses;
use crate::agent::Agent;
use crate::config::PoolSource;
use crate::deviations::{Deviation, Loaded, Observed, Remedy, Wanted, compare};
use crate::net::{Link, Netlink};
use crate::node::{self, NodeError};
use crate::programs::{self, Interface, ProgramError};
use crate::source;
use crate::verbs::{publish_routes, set_platform_gateway};

/// How long a change may go unseen of which the kernel sends no message, such as a program that was detached.
const POLL: Duration = Duration::from_secs(2);
/// Changes come in groups: the second look waits for the rest.
const SETTLE: Duration = Duration::from_millis(300);
/// The kernel tells of changed routes too; this finds what it has not told.
const LOOKS_PER_LISTING: u32 = 5;

/// Runs until the agent ends.
pub(super) async fn watch_node(agent: Arc<Agent>) {
    let changes: Pin<Box<dyn Stream<Item = ()> + Send>> = match Netlink::uplink_changes(&agent.uplink.name) {
        Ok(changes) => Box::pin(changes),
        Err(error) => {
            tracing::error!(%error, "cannot watch the uplink: changes are found by a timer");
            Box::pin(futures::stream::pending())
        }
    };
    let mut changes = changes.ready_chunks(1024);
    let mut watch = Watch::of(&agent);
    let mut pause = Duration::ZERO;
    loop {
        let changed = tokio::select! {
            Some(_) = changes.next() => true,
            () = agent.node_watch.asked() => true,
            () = tokio::time::sleep(pause) => false,
        };
        if changed {
            put_right(&agent).await;
        }
        pause = match look(&agent, &mut watch, changed).await {
            Ok(true) => SETTLE,
            Ok(false) => POLL,
            Err(error) => {
                tracing::error!(%error, "looking at the uplink");
                POLL
            }
        };
    }
}

/// What is kept from look to look.
struct Watch {
    loaded: Loaded,
    /// As last read: to list all routes takes longer than all the rest.
    default_routes: [Option<bool>; 2],
    looks: u32,
}

impl Watch {
    fn of(agent: &Agent) -> Self {
        let pool = agent.pool();
        let loaded = Loaded {
            uplink: agent.uplink.clone(),
            wanted: Wanted { primaries: pool.primaries(), dual_stack: pool.is_dual_stack() },
            default_routes: [false; 2],
        };
        Self { loaded, default_routes: [None; 2], looks: 0 }
    }
}

/// What the kernel forgets when an interface goes down or loses an address. Each is idempotent.
async fn put_right(agent: &Arc<Agent>) {
    if let Err(error) = sync_node_addresses(agent).await {
        tracing::warn!(error = format!("{error:#}"), "publishing the node's addresses after a change of the uplink");
    }
    if let Err(error) = publish_routes(agent).await {
        tracing::warn!(%error, "publishing routes after a change of the uplink");
    }
    if let Err(error) = set_platform_gateway(agent).await {
        tracing::warn!(%error, "making the platform's gateway a neighbour after a change of the uplink");
    }
}

/// True if the node is to be looked at again soon.
async fn look(agent: &Arc<Agent>, watch: &mut Watch, changed: bool) -> Result<bool, NodeError> {
    if changed || watch.looks.is_multiple_of(LOOKS_PER_LISTING) {
        watch.default_routes = node::default_routes(&agent.netlink, &agent.uplink).await?;
        for (had, has) in watch.loaded.default_routes.iter_mut().zip(watch.default_routes) {
            *had |= has == Some(true);
        }
    }
    watch.looks = watch.looks.wrapping_add(1);
    let observed = Observed { default_routes: watch.default_routes, ..observe(agent).await? };
    let is_gone = |deviation: &Deviation| matches!(deviation.remedy(), Remedy::PutBack(_));
    let (gone, mut found): (Vec<_>, Vec<_>) = compare(&watch.loaded, &observed).into_iter().partition(is_gone);
    put_programs_back(agent, &observed, &gone).await;

    let before = agent.node_watch.deviations().clone();
    let starts = found.iter().filter(|deviation| deviation.remedy() == Remedy::StartAgain).cloned().collect::<Vec<_>>();
    let is_settled = starts.iter().all(|deviation| before.contains(deviation));
    if !starts.is_empty() && is_settled {
        found.extend(start_again(agent, &observed, &starts).await);
    }
    report(agent, &before, &found);
    *agent.node_watch.deviations() = found;
    Ok(!is_settled)
}

/// Has the agent start again, or says why it cannot.
async fn start_again(agent: &Agent, observed: &Observed, starts: &[Deviation]) -> Option<Deviation> {
    let why = starts.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    match would_start(agent, observed).await {
        Ok(()) => {
            agent.node_watch.demand_start(why);
            None
        }
        Err(error) => {
            let cuts_off = starts.iter().any(Deviation::cuts_off);
            Some(Deviation::CannotStart { why, problem: error.to_string(), cuts_off })
        }
    }
}

/// Logs what needs an operator and is new, or is over. Lets the reconciler put pods' routes right once an address is back that
/// they need.
fn report(agent: &Agent, before: &[Deviation], now: &[Deviation]) {
    let needs_operator = |deviation: &&Deviation| deviation.remedy() == Remedy::Operator;
    for deviation in now.iter().filter(needs_operator).filter(|deviation| !before.contains(deviation)) {
        tracing::error!("{deviation}");
        if matches!(deviation, Deviation::PrimaryGone { .. }) {
            agent.source.hurry();
        }
    }
    for deviation in before.iter().filter(needs_operator).filter(|deviation| !now.contains(deviation)) {
        tracing::info!(what = %deviation, "over");
        agent.node_watch.hurry_reconciler();
    }
}

async fn observe(agent: &Agent) -> Result<Observed, NodeError> {
    let uplink = agent.current_uplink().await?;
    let successor = match &uplink {
        Some(_) => None,
        None => node::find_uplink(&agent.netlink, agent.config.uplink.as_ref().map(|name| name.as_str())).await.ok(),
    };
    let mut observed =
        Observed { listed: listed(agent, uplink.as_ref().or(successor.as_ref())).await, ..Observed::default() };
    if let Some(link) = uplink.as_ref().or(successor.as_ref()) {
        let addresses = agent.netlink.addresses(Some(link.index)).await?;
        observed.addresses = addresses.iter().map(|net| net.addr()).collect();
    }
    if let Some(uplink) = &uplink {
        for hook in Hook::UPLINK {
            let interface = Interface { name: &uplink.name, index: uplink.index };
            match programs::attachment(&agent.netlink, &agent.datapath, hook, interface).await {
                Ok(attachment) => observed.programs.push((hook, attachment)),
                // STATUS reports it.
                Err(error) => tracing::debug!(%error, "looking at a program of the uplink"),
            }
        }
    }
    Ok(Observed { uplink, successor, ..observed })
}

/// What a start would use as the pool, if that is not what the programs were loaded for.
async fn listed(agent: &Agent, uplink: Option<&Link>) -> Option<Wanted> {
    let current = agent.pool();
    if agent.config.pool.source != PoolSource::Cns {
        let listed = agent.node_watch.listed()?;
        return Some(Wanted { primaries: listed.primaries(), dual_stack: listed.is_dual_stack() });
    }
    // With azure-cns the primary addresses are the uplink's own, and there is no source that could contradict.
    let own = source::primaries_of(&agent.netlink, uplink?).await.ok()??;
    (own != current.primaries()).then_some(Wanted { primaries: own, dual_stack: current.is_dual_stack() })
}

/// Whether a start would succeed, as far as can be told without one.
async fn would_start(agent: &Agent, observed: &Observed) -> Result<(), NodeError> {
    let configured = agent.config.uplink.as_ref().map(|name| name.as_str());
    let uplink = node::find_uplink(&agent.netlink, configured).await?;
    let mut pool = agent.node_watch.listed().unwrap_or_else(|| (*agent.pool()).clone());
    if let Some(wanted) = observed.listed {
        (pool.primary, pool.primary6) = (wanted.primaries.v4, wanted.primaries.v6);
    }
    node::check(&agent.config, &agent.netlink, &uplink, &pool).await?;
    let foreign = observed.programs.iter().filter(|(_, found)| matches!(found, Attachment::Foreign(_)));
    let problems: Vec<_> =
        foreign.map(|(hook, _)| format!("another program has the place of {}", hook.program())).collect();
    if problems.is_empty() { Ok(()) } else { Err(NodeError::NotReady { problems }) }
}

async fn put_programs_back(agent: &Agent, observed: &Observed, deviations: &[Deviation]) {
    let Some(uplink) = &observed.uplink else { return };
    for deviation in deviations {
        let Remedy::PutBack(hook) = deviation.remedy() else { continue };
        let interface = Interface { name: &uplink.name, index: uplink.index };
        match programs::take_over(&agent.netlink, &agent.datapath, hook, interface).await {
            Ok(()) => {
                tracing::warn!(
                    program = hook.program(),
                    uplink = uplink.name,
                    "was not attached to the uplink; put back"
                );
                agent.count_repair("uplink-program-repaired");
            }
            // A finding of its own.
            Err(ProgramError::Foreign(_)) => {}
            Err(error) => tracing::error!(%error, "a program of the uplink cannot be put back"),
        }
    }
}
