//! What is to be done about what was seen. Pure.
//!
//! That the host veth of a record is there says that the pod's namespace lives, whatever became of the path that led to it:
//! a veth goes with its peer, and that with its namespace. Only where the veth is gone is the path asked.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use azure_cni_api::cni::AttachmentId;
use azure_cni_api::labels;
use azure_cni_api::names;
use azure_cni_datapath::Hook;
use azure_cni_ipam::Addresses;

use super::grace::Grace;
use super::seen::{Life, Seen};
use crate::endpoint::{self, Endpoint};
use crate::net::{Link, NeighbourEntry, RouteEntry};
use crate::state::AttachmentRecord;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Everything of an attachment goes, and its addresses with it.
    Release { id: AttachmentId, why: &'static str },
    /// A veth that no record has. Its number, as a later one of its name is another.
    RemoveLink { name: String, index: u32 },
    /// Programs pinned for an interface that no record has.
    Unpin { interface: String },
    /// An address in the data path that nobody has.
    RemoveMapEntry { address: IpAddr },
    /// A lease without a record.
    DropLease { id: AttachmentId },
    /// The veth is gone, and its namespace lives.
    Rebuild { id: AttachmentId },
    /// The veth stands, and this is missing.
    Repair { id: AttachmentId, interface: String, index: u32, missing: Vec<Repair> },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Repair {
    Up,
    Label(String),
    Route(RouteEntry),
    Neighbour(NeighbourEntry),
    Program(Hook),
    MapEntry(IpAddr),
}

/// How a record stands.
enum Standing<'a> {
    OfAnotherBoot,
    Stands(&'a Link),
    /// Another veth of ours has its name, left of one that was being made anew.
    Replaced(&'a Link),
    Lives,
    Gone,
    /// Nothing that could be judged, or that is ours to touch.
    Open,
}

/// In an order in which nothing is repaired that is in the way of something removed.
pub fn plan(seen: &Seen, grace: &mut Grace, now: Duration) -> Vec<Action> {
    let mut actions = Vec::new();
    let mut mending = Vec::new();
    let mut gone = BTreeSet::new();
    let idle = |record: &&AttachmentRecord| !seen.busy.contains(&record.host_interface);
    for record in seen.records.iter().filter(idle) {
        let id = record.id.clone();
        match standing(seen, record) {
            Standing::OfAnotherBoot => actions.push(Action::Release { id, why: "the machine was booted since" }),
            Standing::Stands(link) => mending.extend(repair(seen, record, link)),
            Standing::Replaced(link) => {
                actions.push(Action::RemoveLink { name: link.name.clone(), index: link.index });
                mending.push(Action::Rebuild { id });
            }
            Standing::Lives => mending.push(Action::Rebuild { id }),
            Standing::Gone => drop(gone.insert(id)),
            Standing::Open => {}
        }
    }
    let over = grace.over(&gone, now).into_iter();
    actions.extend(over.map(|id| Action::Release { id, why: "its namespace is gone" }));
    actions.extend(unrecorded(seen));
    actions.extend(mending);
    actions
}

fn standing<'a>(seen: &'a Seen, record: &AttachmentRecord) -> Standing<'a> {
    if record.boot_id != seen.boot_id {
        return Standing::OfAnotherBoot;
    }
    match (seen.links.get(&record.host_interface), seen.namespaces.get(&record.id)) {
        (Some(link), _) if link.index == record.host_ifindex => Standing::Stands(link),
        (Some(link), Some(Life::Lives)) if endpoint::is_labelled(link) => Standing::Replaced(link),
        (None, Some(Life::Lives)) => Standing::Lives,
        (_, Some(Life::Gone)) => Standing::Gone,
        _ => Standing::Open,
    }
}

/// What no record names and no call works on.
fn unrecorded(seen: &Seen) -> Vec<Action> {
    let recorded: BTreeSet<&str> = seen.records.iter().map(|record| record.host_interface.as_str()).collect();
    let nobodys = |name: &&String| !recorded.contains(name.as_str()) && !seen.busy.contains(*name);
    let mut actions = Vec::new();
    // Of an agent that labelled nothing yet, the pins tell.
    let ours = |link: &&Link| endpoint::is_labelled(link) || (link.is_veth && seen.pins.contains(&link.name));
    for link in seen.links.values().filter(ours).filter(|link| nobodys(&&link.name)) {
        actions.push(Action::RemoveLink { name: link.name.clone(), index: link.index });
    }
    for interface in seen.pins.iter().filter(nobodys) {
        actions.push(Action::Unpin { interface: interface.clone() });
    }
    let recorded_addresses = seen.records.iter().flat_map(|record| record.addresses.iter().copied());
    let held: BTreeSet<IpAddr> = recorded_addresses.chain(seen.leases.values().flat_map(Addresses::iter)).collect();
    for address in seen.map_entries.keys().filter(|address| !held.contains(address)) {
        actions.push(Action::RemoveMapEntry { address: *address });
    }
    let with_record: BTreeSet<&AttachmentId> = seen.records.iter().map(|record| &record.id).collect();
    for id in seen.leases.keys().filter(|id| !with_record.contains(id)) {
        if !seen.busy.contains(&names::host_interface(id)) {
            actions.push(Action::DropLease { id: id.clone() });
        }
    }
    actions
}

fn repair(seen: &Seen, record: &AttachmentRecord, link: &Link) -> Option<Action> {
    let addresses = Addresses::first_of_each(record.addresses.iter().copied())?;
    let endpoint = Endpoint {
        addresses,
        node_addresses: seen.node_addresses?,
        host_interface: record.host_interface.clone(),
        pod_interface: record.id.ifname.to_string(),
        pod_mac: record.pod_mac,
        mtu: record.mtu,
    };
    let mut missing = Vec::new();
    if !link.is_up {
        missing.push(Repair::Up);
    }
    let alias = labels::alias(&record.id, &record.netns);
    if !endpoint::is_labelled(link) || link.alias.as_ref() != Some(&alias) {
        missing.push(Repair::Label(alias));
    }
    // A link that is down loses its routes and permanent neighbours only when it goes up again.
    missing
        .extend(endpoint.pod_neighbours(link.index).filter(|it| !seen.neighbours.contains(it)).map(Repair::Neighbour));
    missing.extend(endpoint.host_routes(link.index).filter(|it| !seen.routes.contains(it)).map(Repair::Route));
    let running = seen.programs.get(&link.name).map(Vec::as_slice).unwrap_or_default();
    missing.extend(Hook::ENDPOINT.into_iter().filter(|hook| !running.contains(hook)).map(Repair::Program));
    let leads_here = |address: &IpAddr| seen.map_entries.get(address).is_some_and(|entry| entry.ifindex == link.index);
    missing.extend(addresses.iter().filter(|address| !leads_here(address)).map(Repair::MapEntry));
    (!missing.is_empty()).then(|| Action::Repair {
        id: record.id.clone(),
        interface: link.name.clone(),
        index: link.index,
        missing,
    })
}

impl Action {
    /// For logs and counters.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Release { .. } => "lease-released",
            Self::RemoveLink { .. } => "veth-removed",
            Self::Unpin { .. } => "pin-removed",
            Self::RemoveMapEntry { .. } => "map-entry-removed",
            Self::DropLease { .. } => "lease-dropped",
            Self::Rebuild { .. } => "veth-rebuilt",
            Self::Repair { .. } => "repaired",
        }
    }
}

impl Repair {
    /// Likewise.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Up => "veth-set-up",
            Self::Label(_) => "veth-labelled",
            Self::Route(_) => "route-repaired",
            Self::Neighbour(_) => "neighbour-repaired",
            Self::Program(_) => "program-repaired",
            Self::MapEntry(_) => "map-entry-repaired",
        }
    }
}
