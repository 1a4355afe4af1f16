//! What the agent holds: the node, the leases, the data path and the records.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use azure_cni_api::boot_time::BootTime;
use azure_cni_api::cni::AttachmentId;
use azure_cni_common::endpoint::EndpointFlags;
use azure_cni_datapath::{Datapath, DatapathError, EndpointEntry};
use azure_cni_ipam::Pool;
use ipnet::IpNet;

use crate::attachment_locks::AttachmentLocks;
use crate::config::AgentConfig;
use crate::endpoint::PodOptions;
use crate::leases::AddressLeases;
use crate::net::{HeldPort, Hindrances, Link, NetError, Netlink};
use crate::node_watch::NodeWatch;
use crate::programs::ForeignFilters;
use crate::refusals::Refusals;
use crate::routing::{Routing, Services};
use crate::source::WatchedSource;
use crate::state::{AttachmentRecord, Store, StoreError};
use crate::steps::{Faults, LatencyHistograms};

/// How often the reconciler has executed each kind of action since the agent started. Actions that failed do not count.
pub type ReconcileCounts = BTreeMap<&'static str, u64>;

/// The running agent. Each part has its own lock, held briefly; [`AttachmentLocks`] orders the calls.
pub struct Agent {
    /// As read at the start. What is in force of `[routing]` is in [`Agent::routing`].
    pub config: AgentConfig,
    pub uplink: Link,
    pub leases: AddressLeases,
    /// Where the pool comes from.
    pub source: Arc<WatchedSource>,
    pub netlink: Netlink,
    pub datapath: Datapath,
    pub locks: AttachmentLocks,
    pub faults: Faults,
    /// The name of this boot of the kernel. Interfaces recorded in another boot are gone.
    pub boot_id: String,
    pub(crate) store: Arc<Store>,
    /// The node's own addresses, as last observed.
    pub(crate) node_addresses: Mutex<BTreeSet<IpAddr>>,
    pub(crate) routing: Mutex<Routing>,
    /// The addresses of services, as last read out of the node's rules.
    pub(crate) services: Mutex<Services>,
    /// Since when every reading of the rules was torn by a change, if the last one was.
    pub(crate) rules_torn_since: Mutex<Option<Instant>>,
    /// What rules of the node do in the way of pods, as last read.
    pub(crate) hindrances: Mutex<Hindrances>,
    /// Prefixes that the node's routes lead elsewhere than to the uplink, as last published.
    pub(crate) elsewhere: Mutex<BTreeSet<IpNet>>,
    /// The addresses that attachments reach through the host, as last published.
    pub(crate) via_host: Mutex<BTreeSet<IpAddr>>,
    /// The families whose route table has no room for all that the node's rules and routes name, as last published.
    pub(crate) all_by_host: Mutex<Vec<&'static str>>,
    /// Held from reading what routes depend on until the routes are published, so that the newest are published last.
    pub(crate) publishing: tokio::sync::Mutex<()>,
    /// Ports of the NAT's range that sockets of the host hold, as last observed; `None`: not observed yet.
    pub(crate) host_ports: Mutex<Option<BTreeSet<HeldPort>>>,
    pub(crate) refusals: Mutex<Refusals>,
    pub(crate) repairs: Mutex<ReconcileCounts>,
    pub foreign_filters: ForeignFilters,
    pub node_watch: NodeWatch,
    /// The MAC addresses of pods' interfaces that are not those of their records, as last observed.
    pub(crate) pod_macs: Mutex<BTreeMap<AttachmentId, [u8; 6]>>,
    /// Why the last network configuration that a runtime has shown is refused, if it is.
    pub(crate) refused_network: Mutex<Option<String>>,
    /// What was wrong with the store at the start, if anything was.
    pub(crate) store_problem: Option<String>,
    /// What is wrong with the plugins of the conflist, or with writing it.
    pub(crate) chain_problems: Mutex<Vec<String>>,
    pub(crate) latency: LatencyHistograms,
    /// Fields of network configurations that mean nothing here and were logged.
    pub(crate) ignored: Mutex<BTreeSet<String>>,
}

impl Agent {
    /// The pool as the source last listed it. One call works with one pool from its beginning to its end.
    pub fn pool(&self) -> Arc<Pool> {
        self.leases.pool()
    }

    /// The uplink as it is now; `None`: it is gone. Another interface may have its index by now, so the MAC address counts too, by which
    /// the source lists it.
    pub async fn current_uplink(&self) -> Result<Option<Link>, NetError> {
        let found = self.netlink.link_by_index(self.uplink.index).await?;
        Ok(found.filter(|link| link.mac == self.uplink.mac))
    }

    /// What is in force of `[routing]`. Hold it briefly.
    pub fn routing(&self) -> MutexGuard<'_, Routing> {
        self.routing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of the addresses of services. Hold it briefly.
    pub(crate) fn services(&self) -> MutexGuard<'_, Services> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes whether a change of the rules has torn the last reading.
    pub(crate) fn note_rules_torn(&self, is_torn: bool) {
        let mut since = self.rules_torn_since.lock().unwrap_or_else(PoisonError::into_inner);
        *since = is_torn.then(|| since.unwrap_or_else(Instant::now));
    }

    /// For how long every reading of the rules was torn; `None`: the last one was whole.
    pub(crate) fn rules_torn_for(&self) -> Option<Duration> {
        self.rules_torn_since.lock().unwrap_or_else(PoisonError::into_inner).map(|since| since.elapsed())
    }

    /// The node's own addresses. Hold it briefly.
    pub(crate) fn node_addresses(&self) -> MutexGuard<'_, BTreeSet<IpAddr>> {
        self.node_addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The data path's entry for an address of a pod, whose interface has this MAC.
    pub fn endpoint_entry(&self, address: IpAddr, ifindex: u32, mac: [u8; 6], options: PodOptions) -> EndpointEntry {
        let public = self.routing().has_public_address(address) || self.pool().public.contains(&address);
        let flags = EndpointFlags::NONE
            .with_if(EndpointFlags::KEEP_SOURCE, options.keep_source || public)
            .with_if(EndpointFlags::LIMITED, options.bandwidth.is_limited());
        EndpointEntry::at(ifindex).with_flags(flags).with_mac(mac)
    }

    /// Tells the data path of an address of a pod. The limits first: the entry's flag has the programs look for them.
    pub fn set_endpoint(
        &self,
        address: IpAddr,
        ifindex: u32,
        mac: [u8; 6],
        options: PodOptions,
    ) -> Result<(), DatapathError> {
        let tables = self.datapath.tables();
        tables.set_limits(ifindex, options.limits())?;
        tables.set_endpoint(address, self.endpoint_entry(address, ifindex, mac, options))
    }

    /// Tells the leases which public addresses the configuration in force names.
    pub fn sync_public_addresses(&self) {
        let configured: Vec<_> = self.routing().config.public_addresses.clone();
        self.leases.set_public(&configured);
    }

    /// Time since the machine booted, the same for every run of the agent.
    pub fn now(&self) -> Duration {
        BootTime::now().since_boot()
    }

    /// Addresses that were released a short time before the agent started still cool down.
    pub(crate) fn restore_released(&self) {
        let since = self.now().saturating_sub(self.config.pool.cooldown());
        self.leases.restore_released(self.store.released_since(since));
    }

    pub(crate) fn count_repair(&self, action: &'static str) {
        *self.repairs.lock().unwrap_or_else(PoisonError::into_inner).entry(action).or_default() += 1;
    }

    /// For the agent that starts next in this process.
    pub(crate) fn take_repairs(&self) -> ReconcileCounts {
        std::mem::take(&mut *self.repairs.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds what agents before this one have repaired in this process.
    pub(crate) fn inherit_repairs(&self, earlier: ReconcileCounts) {
        let mut repairs = self.repairs.lock().unwrap_or_else(PoisonError::into_inner);
        earlier.into_iter().for_each(|(action, count)| *repairs.entry(action).or_default() += count);
    }

    /// Runs a change of the store on a thread that may block.
    pub async fn with_store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || work(&store))
            .await
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }

    /// The record of an attachment, if it has one.
    pub fn record(&self, id: &AttachmentId) -> Option<AttachmentRecord> {
        self.store.get(id)
    }

    /// The MAC address of a pod's interface: as last observed, else as recorded. A chained plugin may have set another than ADD.
    pub fn pod_mac(&self, record: &AttachmentRecord) -> [u8; 6] {
        let observed = self.pod_macs.lock().unwrap_or_else(PoisonError::into_inner);
        observed.get(&record.id).copied().unwrap_or(record.pod_mac)
    }

    /// The configuration in force: as read at the start, with the `[routing]` that was read since.
    pub fn config_in_force(&self) -> AgentConfig {
        AgentConfig { routing: self.routing().config.clone(), ..self.config.clone() }
    }

    /// Every attachment there is a record of.
    pub fn records(&self) -> Vec<AttachmentRecord> {
        self.store.all()
    }
}
