//! What a look at the node has found. Pure data.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use azure_cni_api::cni::AttachmentId;
use azure_cni_datapath::{Endpoint as MapEntry, Hook};
use azure_cni_ipam::Addresses;

use crate::net::{Link, NeighbourEntry, RouteEntry};
use crate::programs::ForeignFilter;
use crate::state::AttachmentRecord;

/// Whether a pod's namespace lives, as far as the path in its record tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    Lives,
    /// The path leads nowhere, or to another namespace.
    Gone,
    /// It could not be looked at.
    Unknown,
}

#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub boot_id: String,
    /// What the host's own sockets reach pods from.
    pub node_addresses: Option<Addresses>,
    pub records: Vec<AttachmentRecord>,
    pub leases: BTreeMap<AttachmentId, Addresses>,
    /// Those named as host veths are.
    pub links: BTreeMap<String, Link>,
    pub routes: Vec<RouteEntry>,
    pub neighbours: Vec<NeighbourEntry>,
    pub map_entries: BTreeMap<IpAddr, MapEntry>,
    /// The hooks that need nothing done, at the host veths of records.
    pub programs: BTreeMap<String, Vec<Hook>>,
    /// Filters of other owners that keep hooks from being attached there.
    pub foreign_filters: Vec<ForeignFilter>,
    /// Interfaces for which programs are pinned.
    pub pins: BTreeSet<String>,
    /// Of records whose veth is not there.
    pub namespaces: BTreeMap<AttachmentId, Life>,
    /// Host veths of attachments that a call works on.
    pub busy: BTreeSet<String>,
}

impl Seen {
    /// Leases of this boot that the book does not have.
    pub fn to_restore(&self) -> Vec<(AttachmentId, Addresses)> {
        let of_this_boot = self.records.iter().filter(|record| record.boot_id == self.boot_id);
        let held = of_this_boot.filter_map(|record| {
            let addresses = Addresses::first_of_each(record.addresses.iter().copied())?;
            Some((record.id.clone(), addresses))
        });
        held.filter(|(id, _)| !self.leases.contains_key(id)).collect()
    }
}
