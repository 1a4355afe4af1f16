//! The state of the node, as observed. Pure data.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use azure_cni_api::cni::AttachmentId;
use azure_cni_datapath::{EndpointEntry, Hook};
use azure_cni_ipam::Addresses;

use crate::endpoint::addresses_of;
use crate::net::{Link, NeighbourEntry, RouteEntry};
use crate::programs::ForeignFilter;
use crate::state::AttachmentRecord;

/// Whether a pod's namespace lives, as far as the path in its record shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    Lives,
    /// The path leads nowhere, or to another namespace.
    Gone,
    /// It could not be checked.
    Unknown,
}

#[derive(Debug, Clone, Default)]
pub struct NodeState {
    pub boot_id: String,
    /// The source addresses of the host's own packets to pods.
    pub node_addresses: Option<Addresses>,
    pub records: Vec<AttachmentRecord>,
    pub leases: BTreeMap<AttachmentId, Addresses>,
    /// Interfaces named like our host veths.
    pub links: BTreeMap<String, Link>,
    pub routes: Vec<RouteEntry>,
    pub neighbours: Vec<NeighbourEntry>,
    /// The MAC addresses of pods' interfaces that are not those of their records.
    pub pod_macs: BTreeMap<AttachmentId, [u8; 6]>,
    pub map_entries: BTreeMap<IpAddr, EndpointEntry>,
    /// The hooks that need nothing done, at the host veths of records.
    pub programs: BTreeMap<String, Vec<Hook>>,
    /// Filters of other owners that keep hooks from being attached there.
    pub foreign_filters: Vec<ForeignFilter>,
    /// Interfaces for which programs are pinned.
    pub pins: BTreeSet<String>,
    /// The namespaces of records whose veth is not there.
    pub namespaces: BTreeMap<AttachmentId, Life>,
    /// Host veths of attachments that a call works on.
    pub busy: BTreeSet<String>,
}

impl NodeState {
    /// Addresses of records of this boot that have no lease.
    pub fn to_restore(&self) -> Vec<(AttachmentId, Addresses)> {
        let of_this_boot = self.records.iter().filter(|record| record.boot_id == self.boot_id);
        let held = of_this_boot.filter_map(|record| {
            let addresses = addresses_of(record)?;
            Some((record.id.clone(), addresses))
        });
        held.filter(|(id, _)| !self.leases.contains_key(id)).collect()
    }
}
