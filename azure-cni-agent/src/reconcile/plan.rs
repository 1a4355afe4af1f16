//! Plans what to do about the state of the node. Pure.
//!
//! While the host veth of a record is there, the pod's namespace lives, whatever became of its path: a veth goes with its
//! peer, and the peer with its namespace. The path counts only where the veth is gone.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use azure_cni_api::cni::AttachmentId;
use azure_cni_api::labels;
use azure_cni_api::mac::HOST_MAC;
use azure_cni_api::names;
use azure_cni_datapath::Hook;
use azure_cni_ipam::Addresses;

use super::grace::Grace;
use super::node_state::{Life, NodeState};
use crate::endpoint::{self, Endpoint};
use crate::net::{Link, NeighbourEntry, RouteEntry};
use crate::state::AttachmentRecord;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Remove everything of an attachment, and free its addresses.
    Release { id: AttachmentId, why: &'static str },
    /// Remove a veth that no record has. The index tells it from a later veth of the same name.
    RemoveLink { name: String, index: u32 },
    /// Remove the pins of programs for an interface that no record has.
    Unpin { interface: String },
    /// Remove an address from the data path that no attachment holds.
    RemoveMapEntry { address: IpAddr },
    /// End a lease without a record.
    DropLease { id: AttachmentId },
    /// Rebuild a veth that is gone although its namespace lives.
    Rebuild { id: AttachmentId },
    /// Add what is missing at a veth that stands.
    Repair { id: AttachmentId, interface: String, index: u32, missing: Vec<Repair> },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Repair {
    Up,
    /// Give the veth the MAC address that the pod's gateway has.
    HostMac,
    /// Give the pod, whose MAC address has changed, the neighbour entries of its gateways again.
    PodGateway,
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
    /// Another veth of ours has its name, left over from a rebuild.
    Replaced(&'a Link),
    Lives,
    Gone,
    /// Its state cannot be judged, or is not ours to change.
    Open,
}

/// Removals come first, so that a repair does not meet something that is to go.
pub fn plan(state: &NodeState, grace: &mut Grace, now: Duration) -> Vec<Action> {
    let mut actions = Vec::new();
    let mut repairs = Vec::new();
    let mut gone = BTreeSet::new();
    let idle = |record: &&AttachmentRecord| !state.busy.contains(&record.host_interface);
    for record in state.records.iter().filter(idle) {
        let id = record.id.clone();
        match standing(state, record) {
            Standing::OfAnotherBoot => actions.push(Action::Release { id, why: "the machine was booted since" }),
            Standing::Stands(link) => repairs.extend(repair(state, record, link)),
            Standing::Replaced(link) => {
                actions.push(Action::RemoveLink { name: link.name.clone(), index: link.index });
                repairs.push(Action::Rebuild { id });
            }
            Standing::Lives => repairs.push(Action::Rebuild { id }),
            Standing::Gone => drop(gone.insert(id)),
            Standing::Open => {}
        }
    }
    let over = grace.over(&gone, now).into_iter();
    actions.extend(over.map(|id| Action::Release { id, why: "its namespace is gone" }));
    actions.extend(unrecorded(state));
    actions.extend(repairs);
    actions
}

fn standing<'a>(state: &'a NodeState, record: &AttachmentRecord) -> Standing<'a> {
    if record.boot_id != state.boot_id {
        return Standing::OfAnotherBoot;
    }
    match (state.links.get(&record.host_interface), state.namespaces.get(&record.id)) {
        (Some(link), _) if link.index == record.host_ifindex => Standing::Stands(link),
        (Some(link), Some(Life::Lives)) if endpoint::is_ours(link) => Standing::Replaced(link),
        (None, Some(Life::Lives)) => Standing::Lives,
        (_, Some(Life::Gone)) => Standing::Gone,
        _ => Standing::Open,
    }
}

/// Removes what no record names and no call works on.
fn unrecorded(state: &NodeState) -> Vec<Action> {
    let recorded: BTreeSet<&str> = state.records.iter().map(|record| record.host_interface.as_str()).collect();
    let is_leftover = |name: &&String| !recorded.contains(name.as_str()) && !state.busy.contains(*name);
    let mut actions = Vec::new();
    for link in state.links.values().filter(|link| endpoint::is_ours(link) && is_leftover(&&link.name)) {
        actions.push(Action::RemoveLink { name: link.name.clone(), index: link.index });
    }
    for interface in state.pins.iter().filter(is_leftover) {
        actions.push(Action::Unpin { interface: interface.clone() });
    }
    let recorded_addresses = state.records.iter().flat_map(|record| record.addresses.iter().copied());
    let held: BTreeSet<IpAddr> = recorded_addresses.chain(state.leases.values().flat_map(Addresses::iter)).collect();
    for address in state.map_entries.keys().filter(|address| !held.contains(address)) {
        actions.push(Action::RemoveMapEntry { address: *address });
    }
    let with_record: BTreeSet<&AttachmentId> = state.records.iter().map(|record| &record.id).collect();
    for id in state.leases.keys().filter(|id| !with_record.contains(id)) {
        if !state.busy.contains(&names::host_interface(id)) {
            actions.push(Action::DropLease { id: id.clone() });
        }
    }
    actions
}

fn repair(state: &NodeState, record: &AttachmentRecord, link: &Link) -> Option<Action> {
    let recorded = Endpoint::of_record(record, state.node_addresses?)?;
    let pod_mac = state.pod_macs.get(&record.id).copied().unwrap_or(record.pod_mac);
    let endpoint = Endpoint { pod_mac, ..recorded };
    let mut missing = Vec::new();
    if !link.is_up {
        missing.push(Repair::Up);
    }
    // With another MAC address, the kernel forgets every neighbour of an interface, permanent ones too (neigh_changeaddr).
    let renumbered = link.mac != HOST_MAC;
    if renumbered {
        missing.push(Repair::HostMac);
    }
    let is_stale = |found: &NeighbourEntry| {
        let of_pod = found.interface == link.index && endpoint.addresses.iter().any(|address| address == found.address);
        of_pod && found.mac != pod_mac
    };
    if state.neighbours.iter().any(is_stale) {
        missing.push(Repair::PodGateway);
    }
    let alias = labels::alias(&record.id, &record.netns);
    if !endpoint::is_ours(link) || link.alias.as_ref() != Some(&alias) {
        missing.push(Repair::Label(alias));
    }
    // A link that is down loses its routes and permanent neighbours only when it goes up again.
    missing.extend(
        endpoint
            .pod_neighbours(link.index)
            .filter(|it| renumbered || !state.neighbours.contains(it))
            .map(Repair::Neighbour),
    );
    missing.extend(endpoint.host_routes(link.index).filter(|it| !state.routes.contains(it)).map(Repair::Route));
    let running = state.programs.get(&link.name).map(Vec::as_slice).unwrap_or_default();
    missing.extend(Hook::ENDPOINT.into_iter().filter(|hook| !running.contains(hook)).map(Repair::Program));
    let leads_here = |address: &IpAddr| {
        state.map_entries.get(address).is_some_and(|entry| (entry.ifindex, entry.mac()) == (link.index, record.pod_mac))
    };
    missing.extend(endpoint.addresses.iter().filter(|address| !leads_here(address)).map(Repair::MapEntry));
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
    /// For logs and counters.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Up => "veth-set-up",
            Self::HostMac => "veth-mac-repaired",
            Self::PodGateway => "pod-gateway-repaired",
            Self::Label(_) => "veth-labelled",
            Self::Route(_) => "route-repaired",
            Self::Neighbour(_) => "neighbour-repaired",
            Self::Program(_) => "program-repaired",
            Self::MapEntry(_) => "map-entry-repaired",
        }
    }
}
