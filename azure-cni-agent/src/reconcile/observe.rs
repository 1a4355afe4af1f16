//! The look at the node.
//!
//! The order matters: records come last, and who is working is asked before and after, so that what an ADD is just making,
//! or has just made, is not taken for nobody's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use azure_cni_api::cni::AttachmentId;
use azure_cni_api::names;
use azure_cni_datapath::Hook;

use super::seen::{Life, Seen};
use crate::agent::Agent;
use crate::net::{Link, Netns, NetnsError};
use crate::state::AttachmentRecord;

/// `programs` says which programs run at an interface.
pub async fn look(agent: &Agent, programs: fn(&Agent, &str) -> Vec<Hook>) -> anyhow::Result<Seen> {
    let mut busy = busy(agent);
    let links = agent.netlink.links().await?.into_iter().filter(|link| names::is_host_interface(&link.name));
    let links: BTreeMap<_, _> = links.map(|link| (link.name.clone(), link)).collect();
    let routes = agent.netlink.routes().await?;
    let neighbours = agent.netlink.permanent_neighbours().await?;
    let map_entries = agent.datapath.tables().endpoints()?;
    let pins = agent.datapath.pinned_interfaces()?;
    let leases = agent.all_leases();
    let records = agent.records();
    busy.extend(self::busy(agent));

    let (running, namespaces) = tokio::task::block_in_place(|| of_records(agent, &records, &links, programs));
    Ok(Seen {
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
    agent.turns.taken().iter().map(names::host_interface).collect()
}

/// An interface that cannot be asked is on its way out, or the next look finds it.
pub fn attached(agent: &Agent, interface: &str) -> Vec<Hook> {
    let attached = |hook: &Hook| agent.datapath.is_attached(*hook, interface).unwrap_or(true);
    Hook::ENDPOINT.into_iter().filter(attached).collect()
}

/// Those that run are an earlier agent's: they are swapped, and what was missing is attached.
pub fn attach_anew(agent: &Agent, interface: &str) -> Vec<Hook> {
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
        // Also the file that a namespace was mounted on.
        Ok(_) | Err(NetnsError::NotANamespace { .. }) => Life::Gone,
        Err(NetnsError::Open { source, .. }) if is_absence(&source) => Life::Gone,
        Err(error) => {
            tracing::warn!(attachment = %record.id, %error, "whether its namespace lives cannot be told");
            Life::Unknown
        }
    }
}

/// ESRCH and EINVAL: what procfs and nsfs say of a process that has ended.
fn is_absence(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ESRCH | libc::EINVAL))
}
