//! Recovers records from the kernel where the store was lost. Host veths with their aliases, the data path's map, routes,
//! neighbours and live namespaces hold nearly all that a record does.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use azure_cni_api::Bandwidth;
use azure_cni_api::boot_time::BootTime;
use azure_cni_api::cni::AttachmentId;
use azure_cni_api::labels;
use azure_cni_api::names;
use azure_cni_common::bandwidth::Limits;
use azure_cni_common::endpoint::EndpointFlags;
use azure_cni_datapath::EndpointEntry;
use azure_cni_ipam::Addresses;

use crate::agent::Agent;
use crate::endpoint::{self, PodOptions};
use crate::net::{Link, NeighbourEntry, Netlink, Netns, NetnsId, RouteEntry};
use crate::state::AttachmentRecord;

/// Does nothing if no record was lost: what the store does not name then must go.
pub async fn recover_if_lost(agent: &Arc<Agent>) -> anyhow::Result<()> {
    if !agent.store.is_unfinished() {
        return Ok(());
    }
    let kernel = Kernel {
        boot_id: agent.boot_id.clone(),
        links: agent.netlink.links().await?,
        routes: agent.netlink.routes().await?,
        neighbours: agent.netlink.permanent_neighbours().await?,
        map_entries: agent.datapath.tables().endpoints()?,
        limits: agent.datapath.tables().all_limits()?,
        via_host: via_host(agent)?,
        public: agent.routing().config.public_addresses.iter().copied().collect(),
    };
    let netns_id = |path: &Path| Netns::open(path).ok().map(|netns| netns.id());
    let mut records = kernel.records(netns_id);
    records.retain(|record| agent.store.lacks(record));
    for record in &mut records {
        record.own_table = own_table(record).await;
    }
    for record in &records {
        tracing::warn!(attachment = %record.id, addresses = ?record.addresses, "recorded again from the kernel");
    }
    if !records.is_empty() || agent.store_problem.is_some() {
        tracing::error!(attachments = records.len(), "the records of attachments were lost and recovered");
    }
    agent.with_store(move |store| store.finish(&records)).await?;
    Ok(())
}

/// Whether the pod has rules for this attachment. A namespace that cannot be entered has none that matter.
async fn own_table(record: &AttachmentRecord) -> bool {
    let table = names::route_table(&record.host_interface);
    let Ok(netns) = Netns::open(&record.netns) else { return false };
    let Ok(in_pod) = Netlink::inside(&netns).await else { return false };
    in_pod.rules().await.is_ok_and(|rules| rules.iter().any(|rule| rule.table == table))
}

/// The addresses that attachments reach through the host. The kernel does not say which attachment: each gets all of them,
/// which is right, only slower.
fn via_host(agent: &Agent) -> anyhow::Result<Vec<IpAddr>> {
    let mut addresses = agent.datapath.tables().host_addresses()?;
    let own = agent.node_addresses.lock().unwrap_or_else(PoisonError::into_inner);
    let routing = agent.routing();
    addresses.retain(|address| !own.contains(address) && !routing.config.host_addresses.contains(address));
    Ok(addresses)
}

/// What the kernel holds of attachments.
#[derive(Debug, Clone, Default)]
pub struct Kernel {
    pub boot_id: String,
    pub links: Vec<Link>,
    pub routes: Vec<RouteEntry>,
    pub neighbours: Vec<NeighbourEntry>,
    pub map_entries: BTreeMap<IpAddr, EndpointEntry>,
    /// By host veth.
    pub limits: BTreeMap<u32, Limits>,
    pub via_host: Vec<IpAddr>,
    pub public: BTreeSet<IpAddr>,
}

impl Kernel {
    /// One for each host veth of ours that has an address. `netns_id` looks a namespace up by its path.
    pub fn records(&self, netns_id: impl Fn(&Path) -> Option<NetnsId>) -> Vec<AttachmentRecord> {
        self.links
            .iter()
            .filter(|link| endpoint::is_ours(link))
            .filter_map(|link| self.record(link, &netns_id))
            .collect()
    }

    fn record(&self, link: &Link, netns_id: &impl Fn(&Path) -> Option<NetnsId>) -> Option<AttachmentRecord> {
        let addresses = self.addresses(link)?;
        let label = link.alias.as_deref().and_then(labels::read_alias);
        let named = label.as_ref().map(|label| label.id.clone()).filter(|id| names::host_interface(id) == link.name);
        let netns: PathBuf = label.and_then(|label| label.netns).unwrap_or_default();
        let id = named.or_else(|| unnamed(&link.name))?;
        let mac_of = |neighbour: &&NeighbourEntry| {
            neighbour.interface == link.index && neighbour.address == IpAddr::V4(addresses.v4)
        };
        let first = IpAddr::V4(addresses.v4);
        let kept = self.map_entries.get(&first).is_some_and(|entry| entry.flags.has(EndpointFlags::KEEP_SOURCE));
        Some(AttachmentRecord {
            requested_at: BootTime::BOOT,
            recorded_at: BootTime::BOOT,
            addresses: addresses.iter().collect(),
            host_interface: link.name.clone(),
            host_ifindex: link.index,
            pod_mac: self.neighbours.iter().find(mac_of).map_or_else(|| names::pod_mac(&id), |entry| entry.mac),
            netns_id: netns_id(&netns),
            netns,
            boot_id: self.boot_id.clone(),
            mtu: link.mtu,
            via_host: self.via_host.clone(),
            // What is inside the pod tells; see `own_table`.
            own_table: false,
            keep_source: kept && !self.public.contains(&first),
            bandwidth: self.limits.get(&link.index).map_or(Bandwidth::UNLIMITED, PodOptions::bandwidth_of),
            id,
        })
    }

    /// By the data path's map; by the host's routes where the map was lost too.
    fn addresses(&self, link: &Link) -> Option<Addresses> {
        let mapped =
            self.map_entries.iter().filter(|(_, entry)| entry.ifindex == link.index).map(|(address, _)| *address);
        let routed = self.routes.iter().filter(|route| route.interface == link.index && route.gateway.is_none());
        let single = routed.filter(|route| route.destination.prefix_len() == route.destination.max_prefix_len());
        Addresses::first_of_each(mapped.chain(single.map(|route| route.destination.addr())))
    }
}

/// Stands for an attachment whose identity did not fit the alias. It holds the addresses until its veth goes.
fn unnamed(interface: &str) -> Option<AttachmentId> {
    Some(AttachmentId {
        network: "recovered".parse().ok()?,
        container_id: interface.parse().ok()?,
        ifname: "eth0".parse().ok()?,
    })
}
