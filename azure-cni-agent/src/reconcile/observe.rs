//! Observes the state of the node.
//!
//! The order matters: records come last, and the attachments that calls work on are read before and after. So what an ADD
//! is making, or has just made, does not look like a leftover.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use azure_cni_api::cni::AttachmentId;
use azure_cni_api::names;
use azure_cni_datapath::Hook;

use super::node_state::{Life, NodeState};
use crate::agent::Agent;
use crate::net::{Link, Netns, NetnsError};
use crate::state::AttachmentRecord;

/// `programs` says which programs run at an interface.
pub async fn observe(agent: &Agent, programs: fn(&Agent, &str) -> Vec<Hook>) -> anyhow::Result<NodeState> {
    let mut busy = busy(agent);
    let links = agent.netlink.links().await?.into_iter().filter(|link| names::is_host_interface(&link.name));
    let links: BTreeMap<_, _> = links.map(|link| (link.name.clone(), link)).collect();
    let routes = agent.netlink.routes().await?;
    let neighbours = agent.netlink.permanent_neighbours().await?;
    let map_entries = agent.datapath.tables().endpoints()?;
    let pins = agent.datapath.pinned_interfaces()?;
    let leases = agent.leases.all();
    let records = agent.records().await?;
    busy.extend(self::busy(agent));

    let (running, namespaces) = tokio::task::block_in_place(|| of_records(agent, &records, &links, programs));
    Ok(NodeState {
        boot_id: agent.boot_id.clone(),
        node_addresses: Some(agent.pool().primaries()),
        records,
        leases,
        links,
        routes,
        neighbours,
        map_entries,
        programs: running,
        pins,
        namespaces,
        busy,
    })
}

/// The programs that run at veths that stand, and the life of namespaces whose veths do not.
fn of_records(
    agent: &Agent,
    records: &[AttachmentRecord],
    links: &BTreeMap<String, Link>,
    programs: fn(&Agent, &str) -> Vec<Hook>,
) -> (BTreeMap<String, Vec<Hook>>, BTreeMap<AttachmentId, Life>) {
    let mut running = BTreeMap::new();
    let mut namespaces = BTreeMap::new();
    for record in records {
        match links.get(&record.host_interface) {
            Some(link) if link.index == record.host_ifindex => {
                running.insert(link.name.clone(), programs(agent, &link.name));
            }
            _ => drop(namespaces.insert(record.id.clone(), life(record))),
        }
    }
    (running, namespaces)
}

fn busy(agent: &Agent) -> BTreeSet<String> {
    agent.locks.held().iter().map(names::host_interface).collect()
}

/// An interface that cannot be queried is on its way out, or the next round finds it.
pub fn attached(agent: &Agent, interface: &str) -> Vec<Hook> {
    let attached = |hook: &Hook| agent.datapath.is_attached(*hook, interface).unwrap_or(true);
    Hook::ENDPOINT.into_iter().filter(attached).collect()
}

/// Swaps the programs of an earlier agent, and attaches those that are missing.
pub fn attach_again(agent: &Agent, interface: &str) -> Vec<Hook> {
    let attach = |hook: &Hook| match agent.datapath.attach(*hook, interface) {
        Ok(()) => true,
        Err(error) => {
            tracing::error!(%error, "taking over a pod");
            false
        }
    };
    Hook::ENDPOINT.into_iter().filter(attach).collect()
}

fn life(record: &AttachmentRecord) -> Life {
    match Netns::open(Path::new(&record.netns)) {
        Ok(netns) if Some(netns.id()) == record.netns_id => Life::Lives,
        // `NotANamespace`: the file that a namespace was mounted on.
        Ok(_) | Err(NetnsError::NotANamespace { .. }) => Life::Gone,
        Err(NetnsError::Open { source, .. }) if is_absence(&source) => Life::Gone,
        Err(error) => {
            tracing::warn!(attachment = %record.id, %error, "whether its namespace lives cannot be told");
            Life::Unknown
        }
    }
}

/// ESRCH and EINVAL: what procfs and nsfs report of a process that has ended.
fn is_absence(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ESRCH | libc::EINVAL))
}
