//! Observes the state of the node.
//!
//! The order matters: records come last, and the attachments that calls work on are read before and after. So what an ADD
//! is making, or has just made, does not look like a leftover.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use azure_cni_api::cni::AttachmentId;
use azure_cni_api::names;
use azure_cni_datapath::{Attachment, Hook};

use super::node_state::{Life, NodeState};
use crate::agent::Agent;
use crate::net::{Link, Netns, NetnsError, RemovedLink};
use crate::programs::{self, ForeignFilter, Interface, ProgramError};
use crate::state::AttachmentRecord;

/// `take_over`: replaces the programs of an earlier agent; otherwise this reads only.
pub async fn observe(agent: &Agent, take_over: bool) -> anyhow::Result<NodeState> {
    let mut busy = busy(agent);
    let links = agent.netlink.links().await?.into_iter().filter(|link| names::is_host_interface(&link.name));
    let links: BTreeMap<_, _> = links.map(|link| (link.name.clone(), link)).collect();
    let routes = agent.netlink.routes().await?;
    let neighbours = agent.netlink.permanent_neighbours().await?;
    let map_entries = agent.datapath.tables().endpoints()?;
    let pins = agent.datapath.pinned_interfaces()?;
    let leases = agent.leases.all();
    let records = agent.records();
    busy.extend(self::busy(agent));

    let namespaces = tokio::task::block_in_place(|| namespaces(&records, &links));
    let pod_macs = pod_macs(agent, &records, &links).await;
    let (programs, foreign_filters) = programs(agent, &records, &links, take_over).await;
    Ok(NodeState {
        boot_id: agent.boot_id.clone(),
        node_addresses: Some(agent.pool().primaries()),
        records,
        leases,
        links,
        routes,
        neighbours,
        pod_macs,
        map_entries,
        programs,
        foreign_filters,
        pins,
        namespaces,
        busy,
    })
}

/// Whether the veth of a record stands.
fn standing<'a>(record: &AttachmentRecord, links: &'a BTreeMap<String, Link>) -> Option<&'a Link> {
    links.get(&record.host_interface).filter(|link| link.index == record.host_ifindex)
}

/// Those that are not as recorded. An interface that cannot be read is on its way out, or the next round finds it.
async fn pod_macs(
    agent: &Agent,
    records: &[AttachmentRecord],
    links: &BTreeMap<String, Link>,
) -> BTreeMap<AttachmentId, [u8; 6]> {
    let mut macs = BTreeMap::new();
    for record in records {
        let Some(peer) = standing(record, links).and_then(|link| link.peer) else { continue };
        if let Ok(Some(link)) = agent.netlink.peer(peer).await
            && link.mac != record.pod_mac
        {
            macs.insert(record.id.clone(), link.mac);
        }
    }
    macs
}

/// The attachments whose veths are among those that went, and whose namespaces went too.
pub fn gone_with(agent: &Agent, removed: &[RemovedLink]) -> Vec<AttachmentId> {
    if !removed.iter().any(|link| names::is_host_interface(&link.name)) {
        return Vec::new();
    }
    let went = |record: &AttachmentRecord| {
        removed.iter().any(|link| link.name == record.host_interface && link.index == record.host_ifindex)
    };
    let records = agent.records().into_iter().filter(|record| record.boot_id == agent.boot_id && went(record));
    tokio::task::block_in_place(|| {
        records.filter(|record| life(record) == Life::Gone).map(|record| record.id).collect()
    })
}

/// The life of namespaces whose veths do not stand.
fn namespaces(records: &[AttachmentRecord], links: &BTreeMap<String, Link>) -> BTreeMap<AttachmentId, Life> {
    let gone = records.iter().filter(|record| standing(record, links).is_none());
    gone.map(|record| (record.id.clone(), life(record))).collect()
}

/// The hooks at veths that stand and need nothing done, and the filters that keep others from being attached.
async fn programs(
    agent: &Agent,
    records: &[AttachmentRecord],
    links: &BTreeMap<String, Link>,
    take_over: bool,
) -> (BTreeMap<String, Vec<Hook>>, Vec<ForeignFilter>) {
    let mut programs = BTreeMap::<String, Vec<Hook>>::new();
    let mut foreign = Vec::new();
    for link in records.iter().filter_map(|record| standing(record, links)) {
        let in_order = programs.entry(link.name.clone()).or_default();
        for hook in Hook::ENDPOINT {
            match stands(agent, hook, link, take_over).await {
                Ok(true) => in_order.push(hook),
                Ok(false) => {}
                // Nothing that the agent could repair.
                Err(ProgramError::Foreign(filter)) => {
                    in_order.push(hook);
                    foreign.push(filter);
                }
                Err(error) if take_over => tracing::error!(%error, "taking over a pod"),
                // An interface that cannot be read is on its way out, or the next round finds it.
                Err(_) => in_order.push(hook),
            }
        }
    }
    (programs, foreign)
}

async fn stands(agent: &Agent, hook: Hook, link: &Link, take_over: bool) -> Result<bool, ProgramError> {
    let interface = Interface { name: &link.name, index: link.index };
    if take_over {
        programs::take_over(&agent.netlink, &agent.datapath, hook, interface).await?;
        return Ok(true);
    }
    match programs::attachment(&agent.netlink, &agent.datapath, hook, interface).await? {
        Attachment::Current => Ok(true),
        Attachment::Outdated | Attachment::Missing => Ok(false),
        Attachment::Foreign(holder) => Err(ForeignFilter { hook, interface: link.name.clone(), holder }.into()),
    }
}

fn busy(agent: &Agent) -> BTreeSet<String> {
    agent.locks.held().iter().map(names::host_interface).collect()
}

fn life(record: &AttachmentRecord) -> Life {
    match Netns::open(Path::new(&record.netns)) {
        Ok(netns) if Some(netns.id()) == record.netns_id => Life::Lives,
        // `NotANamespace`: the file that a namespace was mounted on.
        Ok(_) | Err(NetnsError::NotANamespace { .. }) => Life::Gone,
        Err(NetnsError::Open { source, .. }) if is_absence(&source) => Life::Gone,
        Err(error) => {
            tracing::warn!(attachment = %record.id, %error, "cannot find out whether its namespace lives");
            Life::Unknown
        }
    }
}

/// ESRCH and EINVAL: what procfs and nsfs report of a process that has ended.
fn is_absence(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ESRCH | libc::EINVAL))
}
