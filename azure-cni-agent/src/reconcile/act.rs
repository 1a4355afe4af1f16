//! The actions. Each looks again before it changes anything, as the node has gone on since the plan's look.

use std::sync::Arc;

use azure_cni_api::cni::{AttachmentId, CniError};
use azure_cni_api::labels;
use azure_cni_api::names;
use azure_cni_datapath::Hook;

use super::plan::{Action, Repair};
use crate::agent::Agent;
use crate::commands::{self, Failure, Steps};
use crate::state::AttachmentRecord;

/// Goes on past failures: each is logged, and the next round finds again what is left.
pub async fn carry_out(agent: &Arc<Agent>, actions: Vec<Action>) {
    for action in actions {
        let (kind, what) = (action.name(), describe(&action));
        match act(agent, action).await {
            Ok(true) => mended(agent, kind, &what),
            Ok(false) => {}
            Err(error) => tracing::error!(action = kind, what, %error, "out of line, and could not be mended"),
        }
    }
}

fn mended(agent: &Agent, kind: &'static str, what: &str) {
    tracing::warn!(action = kind, what, "out of line; mended");
    agent.count_reconciled(kind);
}

/// Whether it was done as a whole; not if it was no longer called for, or a call is working on the attachment.
async fn act(agent: &Arc<Agent>, action: Action) -> Result<bool, CniError> {
    match action {
        Action::Release { id, .. } => release(agent, &id).await,
        Action::RemoveLink { name, index } => remove_link(agent, &name, index).await,
        Action::Unpin { interface } => unpin(agent, &interface).await,
        Action::RemoveMapEntry { address } => Ok(agent.remove_if_nobodys(address).map_err(Failure::from)?),
        Action::DropLease { id } => drop_lease(agent, &id).await,
        Action::Rebuild { id } => rebuild(agent, &id).await,
        Action::Repair { id, interface, index, missing } => {
            repair(agent, &id, &interface, index, missing).await.map(|()| false)
        }
    }
}

async fn release(agent: &Arc<Agent>, id: &AttachmentId) -> Result<bool, CniError> {
    let Some(_turn) = agent.turns.try_take(id) else { return Ok(false) };
    let Some(record) = agent.record(id) else { return Ok(false) };
    let link = agent.netlink.link(&record.host_interface).await.map_err(Failure::from)?;
    if link.is_some_and(|link| link.index == record.host_ifindex && record.boot_id == agent.boot_id) {
        return Ok(false);
    }
    commands::detach(agent, id, &mut Steps::default()).await.map(|()| true)
}

/// Whose it is the alias tells; without one, no call that works on anything may have made it.
async fn remove_link(agent: &Agent, name: &str, index: u32) -> Result<bool, CniError> {
    let Some(link) = agent.netlink.link(name).await.map_err(Failure::from)?.filter(|link| link.index == index) else {
        return Ok(false);
    };
    let whose = link.alias.as_deref().and_then(labels::read_alias).map(|label| label.id);
    let _turn = match &whose {
        Some(id) => {
            let Some(turn) = agent.turns.try_take(id) else { return Ok(false) };
            let stands = agent.record(id).is_some_and(|record| record.host_ifindex == index);
            if stands {
                return Ok(false);
            }
            Some(turn)
        }
        None if agent.turns.taken().iter().any(|id| names::host_interface(id) == name) => return Ok(false),
        None => None,
    };
    agent.netlink.delete_link_by_index(index).await.map_err(Failure::from)?;
    Ok(true)
}

async fn unpin(agent: &Agent, interface: &str) -> Result<bool, CniError> {
    // A call that began since needs its pins; one that begins now attaches its own.
    if agent.turns.taken().iter().any(|id| names::host_interface(id) == interface) {
        return Ok(false);
    }
    if agent.records().iter().any(|record| record.host_interface == interface) {
        return Ok(false);
    }
    for hook in Hook::ENDPOINT {
        agent.datapath.detach(hook, interface).map_err(Failure::from)?;
    }
    Ok(true)
}

async fn drop_lease(agent: &Arc<Agent>, id: &AttachmentId) -> Result<bool, CniError> {
    let Some(_turn) = agent.turns.try_take(id) else { return Ok(false) };
    if agent.record(id).is_some() || agent.lease_of(id).is_none() {
        return Ok(false);
    }
    commands::detach(agent, id, &mut Steps::default()).await.map(|()| true)
}

async fn rebuild(agent: &Arc<Agent>, id: &AttachmentId) -> Result<bool, CniError> {
    let Some(_turn) = agent.turns.try_take(id) else { return Ok(false) };
    let Some(record) = agent.record(id) else { return Ok(false) };
    if agent.netlink.link(&record.host_interface).await.map_err(Failure::from)?.is_some() {
        return Ok(false);
    }
    commands::rebuild(agent, record).await.map(|()| true)
}

/// Reports each thing that it has repaired.
async fn repair(
    agent: &Arc<Agent>,
    id: &AttachmentId,
    interface: &str,
    index: u32,
    missing: Vec<Repair>,
) -> Result<(), CniError> {
    let Some(_turn) = agent.turns.try_take(id) else { return Ok(()) };
    let record = agent.record(id).filter(|record| record.host_ifindex == index);
    let Some(record) = record else { return Ok(()) };
    for repair in missing {
        let name = repair.name();
        mend(agent, &record, interface, index, repair).await?;
        mended(agent, name, &id.to_string());
    }
    Ok(())
}

async fn mend(
    agent: &Agent,
    record: &AttachmentRecord,
    interface: &str,
    index: u32,
    repair: Repair,
) -> Result<(), Failure> {
    match repair {
        Repair::Up => agent.netlink.set_up(index).await?,
        Repair::Label(alias) => agent.netlink.label_link(interface, labels::GROUP, &alias).await?,
        Repair::Route(route) => agent.netlink.replace_route(route).await?,
        Repair::Neighbour(neighbour) => agent.netlink.replace_neighbour(neighbour).await?,
        Repair::Program(hook) => agent.datapath.attach(hook, interface)?,
        Repair::MapEntry(address) => {
            let endpoint = agent.endpoint(address, index, record.keep_source);
            agent.datapath.tables().set_endpoint(address, endpoint)?;
        }
    }
    Ok(())
}

fn describe(action: &Action) -> String {
    match action {
        Action::Release { id, why } => format!("{id}: {why}"),
        Action::RemoveLink { name, .. } => name.clone(),
        Action::Unpin { interface } => interface.clone(),
        Action::RemoveMapEntry { address } => address.to_string(),
        Action::DropLease { id } | Action::Rebuild { id } | Action::Repair { id, .. } => id.to_string(),
    }
}
