//! What the agent knows and holds: the node, the pool, the leases, the data path and the records on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use azure_cni_api::AddressRequest;
use azure_cni_api::cni::{AttachmentId, CniArgs, NetConf};
use azure_cni_common::layout::EndpointFlags;
use azure_cni_common::layout::RouteClass;
use azure_cni_datapath::{Datapath, DatapathError, Endpoint};
use azure_cni_ipam::{Addresses, FamilyCounts, Leases, LeasesRestoreError, NoAddress, Pool};
use ipnet::IpNet;
use nix::time::{ClockId, clock_gettime};

use crate::commands::Faults;
use crate::config::AgentConfig;
use crate::net::{HeldPort, Link, Netlink, NextHop};
use crate::node;
use crate::reconcile::Counters;
use crate::refusals::Refusals;
use crate::routing::{PLATFORM_ADDRESSES, Routing, gateways};
use crate::source::WatchedSource;
use crate::source::cns::{self, Cns, CnsError};
use crate::state::{AttachmentRecord, BootStamp, Store, StoreError};
use crate::times::StepTimes;
use crate::turns::Turns;

/// Why an attachment got no addresses.
#[derive(Debug, thiserror::Error)]
pub enum NotLeased {
    /// Whether a retry helps is the cause's to say.
    #[error(transparent)]
    Pool(#[from] NoAddress),
    /// Likewise.
    #[error(transparent)]
    Cns(#[from] CnsError),
}

/// The running agent. Everything in it is locked on its own and briefly; [`Turns`] orders the calls.
pub struct Agent {
    /// As read at the start; [`Agent::routing`] has what is in force of its `[routing]`.
    pub config: AgentConfig,
    pub uplink: Link,
    /// As the source last listed it; [`Agent::pool`] reads it.
    pub(crate) pool: RwLock<Arc<Pool>>,
    /// Where that comes from.
    pub source: WatchedSource,
    /// Gives addresses to attachments, in place of the pool; `None`: the pool does.
    pub cns: Option<Cns>,
    pub netlink: Netlink,
    pub datapath: Datapath,
    pub turns: Turns,
    pub faults: Faults,
    /// Names this run of the kernel: what was recorded in another one is gone.
    pub boot_id: String,
    pub(crate) store: Arc<Store>,
    pub(crate) leases: Mutex<Leases>,
    /// The node's own addresses, as last seen.
    pub(crate) node_addresses: Mutex<BTreeSet<IpAddr>>,
    pub(crate) routing: Mutex<Routing>,
    /// What attachments want to be reached through the host, as last published.
    pub(crate) via_host: Mutex<BTreeSet<IpAddr>>,
    /// Held from reading what routes follow from until they are published, so that no older word comes last.
    pub(crate) publishing: tokio::sync::Mutex<()>,
    /// Ports of the NAT's range that sockets of the host hold, as last seen; `None`: not looked yet.
    pub(crate) host_ports: Mutex<Option<BTreeSet<HeldPort>>>,
    pub(crate) refusals: Mutex<Refusals>,
    pub(crate) reconciled: Mutex<Counters>,
    /// What became of the store at the start, if it was not sound.
    pub(crate) store_problem: Option<String>,
    pub(crate) times: StepTimes,
    /// Fields of network configurations without meaning, as they were logged.
    pub(crate) ignored: Mutex<BTreeSet<String>>,
}

impl Agent {
    /// Bytes, of pod interfaces: what the network asks for, else what the agent's configuration says, else the uplink's.
    pub fn pod_mtu(&self, asked: Option<u32>) -> u32 {
        asked.or(self.config.datapath.mtu).unwrap_or(self.uplink.mtu)
    }

    /// Why the agent can have no pod of this network as it is configured, if it cannot.
    pub fn unfit(&self, network: &NetConf) -> Option<String> {
        let uplink = &self.uplink.name;
        let elsewhere = network.master.as_ref().filter(|master| *master != uplink).map(|master| {
            format!(
                "master is {master}, and this agent's pods are on {uplink}: a NIC of its own needs an agent of its own"
            )
        });
        let too_small = || {
            let of_dual_stack = self.pool().is_dual_stack();
            node::ipv6_mtu_problem(self.pod_mtu(network.mtu)).filter(|_| of_dual_stack)
        };
        elsewhere.or_else(too_small)
    }

    /// The pool as the source last listed it. One call works with one of them from its beginning to its end.
    pub fn pool(&self) -> Arc<Pool> {
        self.pool.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is in force of `[routing]`. To be held briefly.
    pub fn routing(&self) -> MutexGuard<'_, Routing> {
        self.routing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the data path is to know of a pod. `keep_source`: its network opts out of source NAT.
    pub fn endpoint(&self, address: IpAddr, ifindex: u32, keep_source: bool) -> Endpoint {
        let public = self.routing().has_public_address(address) || self.pool().public.contains(&address);
        let keeps = keep_source || public;
        Endpoint { ifindex, flags: if keeps { EndpointFlags::KEEP_SOURCE } else { EndpointFlags::NONE } }
    }

    /// The lease book's clock: time since the machine was booted, the same for every run of the agent.
    pub fn now(&self) -> Duration {
        // Fails for clocks that the kernel does not have alone.
        clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default()
    }

    pub fn boot_time(&self) -> BootStamp {
        BootStamp { boot_id: self.boot_id.clone(), since_boot: self.now() }
    }

    /// Addresses that were released a short time before the agent started still cool down.
    pub(crate) async fn restore_released(&self) -> Result<(), StoreError> {
        let mut since = self.boot_time();
        since.since_boot = since.since_boot.saturating_sub(self.config.pool.cooldown());
        let released = self.with_store(move |store| store.released_since(&since)).await?;
        let mut leases = self.leases();
        released.into_iter().for_each(|(address, at)| leases.restore_released(address, at));
        Ok(())
    }

    /// Addresses for an attachment; those it has, if it has some. The one way in which an attachment gets addresses.
    /// To be called with its turn.
    pub async fn lease(
        &self,
        id: &AttachmentId,
        address_request: &AddressRequest,
        args: &CniArgs,
    ) -> Result<Addresses, NotLeased> {
        if let Some(cns) = &self.cns {
            return Ok(cns::lease(self, cns, id, address_request, args).await?);
        }
        let leased = self.leases().lease(id, address_request, self.now());
        if leased.is_err() {
            // The source may list more by now.
            self.source.hurry();
        }
        Ok(leased?)
    }

    /// Gives an attachment of an earlier run its addresses again.
    pub fn restore_lease(&self, id: &AttachmentId, addresses: Addresses) -> Result<(), LeasesRestoreError> {
        self.leases().restore(id, addresses)
    }

    /// The way back of [`Agent::lease`]; `None` if it had none.
    pub async fn release(&self, id: &AttachmentId) -> Option<Addresses> {
        let released = self.leases().release(id, self.now());
        if let Some(cns) = &self.cns {
            cns.owe();
        }
        released
    }

    /// Makes these the addresses that pods may get.
    pub(crate) fn set_leasable(&self, addresses: Vec<IpAddr>) {
        self.leases().set_pool(addresses);
    }

    /// Whether a pod that starts now finds no address in the pool. Never of azure-cns, which has addresses of its own.
    pub fn is_out_of_addresses(&self) -> bool {
        let counts = self.pool_counts();
        self.cns.is_none() && (counts.v4.free == 0 || counts.v6.is_some_and(|v6| v6.free == 0))
    }

    /// Pods that ask for a public address get one of these, others get them last.
    pub fn follow_public_addresses(&self) {
        let configured: Vec<_> = self.routing().config.public_addresses.clone();
        let public = configured.into_iter().chain(self.pool().public.iter().copied()).collect();
        self.leases().set_public(&public);
    }

    pub fn lease_of(&self, id: &AttachmentId) -> Option<Addresses> {
        self.leases().lease_of(id)
    }

    pub fn all_leases(&self) -> BTreeMap<AttachmentId, Addresses> {
        self.leases().all().map(|(id, addresses)| (id.clone(), addresses)).collect()
    }

    /// Addresses of the pool that nobody holds.
    pub fn free_addresses(&self) -> BTreeSet<IpAddr> {
        let leases = self.leases();
        self.pool().addresses().filter(|address| leases.holder(*address).is_none()).collect()
    }

    /// Takes an address out of the data path unless somebody holds it; whether it was.
    pub fn remove_if_nobodys(&self, address: IpAddr) -> Result<bool, DatapathError> {
        {
            // Held meanwhile, so that nobody gets the address in between.
            let leases = self.leases();
            if leases.holder(address).is_some() {
                return Ok(false);
            }
            self.datapath.tables().remove_endpoint(address)?;
        }
        tokio::task::block_in_place(|| self.datapath.tables().scrub(address))?;
        Ok(true)
    }

    pub(crate) fn count_reconciled(&self, action: &'static str) {
        *self.reconciled.lock().unwrap_or_else(PoisonError::into_inner).entry(action).or_default() += 1;
    }

    pub fn pool_counts(&self) -> FamilyCounts {
        self.leases().counts(self.now())
    }

    fn leases(&self) -> MutexGuard<'_, Leases> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one blocking exchange with the store on a thread that may block.
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
    pub async fn record(&self, id: &AttachmentId) -> Result<Option<AttachmentRecord>, StoreError> {
        let id = id.clone();
        self.with_store(move |store| store.get(&id)).await
    }

    /// Every attachment there is a record of.
    pub async fn records(&self) -> Result<Vec<AttachmentRecord>, StoreError> {
        self.with_store(|store| store.all()).await
    }

    /// Makes the data path's route table say what configuration, node and attachments say, and where the Internet is.
    ///
    /// A prefix that several of them name belongs to the host: up the stack is right for everything, only slower. The
    /// platform's addresses are the platform's whoever names them.
    pub fn publish_routes(
        &self,
        of_attachments: &BTreeSet<IpAddr>,
        next_hops: &[Option<Vec<NextHop>>; 2],
    ) -> Result<(), DatapathError> {
        let mut routes = BTreeMap::new();
        let routing = self.routing();
        let pool = self.pool();
        let subnets = pool.subnets.iter().map(|subnet| subnet.prefix);
        for prefix in subnets.chain(routing.vnet_prefixes()) {
            routes.insert(prefix.trunc(), RouteClass::VNET);
        }
        for prefix in routing.config.service_prefixes.iter().flatten() {
            routes.insert(prefix.trunc(), RouteClass::HOST);
        }
        let node_addresses = self.node_addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let configured = routing.config.host_addresses.iter();
        for address in configured.chain(node_addresses.iter()).chain(of_attachments) {
            routes.insert(IpNet::from(*address), RouteClass::HOST);
        }
        let apart: Vec<_> = routes.keys().copied().collect();
        let gateways = gateways(next_hops, &apart);
        if self.datapath.tables().set_gateways(gateways)? {
            let name =
                |router: Option<IpAddr>| router.map_or("by the kernel's routes".into(), |router| router.to_string());
            let (router, router6) = (name(gateways.v4.map(Into::into)), name(gateways.v6.map(Into::into)));
            tracing::info!(router, router6, "the way to the Internet has changed");
        }
        for address in PLATFORM_ADDRESSES {
            routes.insert(address.parse().expect("a constant prefix"), RouteClass::PLATFORM);
        }
        self.datapath.tables().set_routes(&routes)?;
        *self.via_host.lock().unwrap_or_else(PoisonError::into_inner) = of_attachments.clone();
        Ok(())
    }
}
