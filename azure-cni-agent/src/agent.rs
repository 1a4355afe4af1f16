//! What the agent knows and holds: the node, the pool, the leases, the data path and the records on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use azure_cni_common::layout::EndpointFlags;
use azure_cni_common::layout::RouteClass;
use ipnet::IpNet;

use crate::cni::AttachmentId;
use crate::commands::Faults;
use crate::config::AgentConfig;
use crate::datapath::{Datapath, DatapathError, Endpoint};
use crate::events::Refusals;
use crate::ipam::{Addresses, FamilyCounts, Leases, LeasesRestoreError, NoAddress, Pool, Wish};
use crate::net::{HeldPort, Link, Netlink};
use crate::routing::{PLATFORM_ADDRESSES, Routing};
use crate::state::{AttachmentRecord, Store, StoreError};
use crate::times::StepTimes;
use crate::turns::Turns;

/// The running agent. Everything in it is locked on its own and briefly; [`Turns`] orders the calls.
pub struct Agent {
    /// As read at the start; [`Agent::routing`] has what is in force of its `[routing]`.
    pub config: AgentConfig,
    pub uplink: Link,
    /// As the source last listed it; [`Agent::pool`] reads it.
    pub(crate) pool: RwLock<Arc<Pool>>,
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
    /// Held from reading what routes follow from until they are published, so that no older word comes last.
    pub(crate) publishing: tokio::sync::Mutex<()>,
    /// Ports of the NAT's range that sockets of the host hold, as last seen; `None`: not looked yet.
    pub(crate) host_ports: Mutex<Option<BTreeSet<HeldPort>>>,
    pub(crate) refusals: Mutex<Refusals>,
    pub(crate) started: Instant,
    pub(crate) times: StepTimes,
    /// Fields of network configurations without meaning, as they were logged.
    pub(crate) ignored: Mutex<BTreeSet<String>>,
}

impl Agent {
    /// Bytes, of pod interfaces: what the network asks for, else what the agent's configuration says, else the uplink's.
    pub fn pod_mtu(&self, asked: Option<u32>) -> u32 {
        asked.or(self.config.datapath.mtu).unwrap_or(self.uplink.mtu)
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
        let keeps = keep_source || self.routing().has_public_address(address);
        Endpoint { ifindex, flags: if keeps { EndpointFlags::KEEP_SOURCE } else { EndpointFlags::NONE } }
    }

    /// The lease book's clock: time since the agent started.
    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Addresses for an attachment; those it has, if it has some. The one way in which an attachment gets addresses.
    pub async fn lease(&self, id: &AttachmentId, wish: &Wish) -> Result<Addresses, NoAddress> {
        self.leases().lease(id, wish, self.now())
    }

    /// Gives an attachment of an earlier run its addresses again.
    pub fn restore_lease(&self, id: &AttachmentId, addresses: Addresses) -> Result<(), LeasesRestoreError> {
        self.leases().restore(id, addresses)
    }

    /// The way back of [`Agent::lease`]; `None` if it had none.
    pub async fn release(&self, id: &AttachmentId) -> Option<Addresses> {
        self.leases().release(id, self.now())
    }

    pub fn lease_of(&self, id: &AttachmentId) -> Option<Addresses> {
        self.leases().lease_of(id)
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

    /// Makes the data path's route table say what configuration, node and attachments say.
    ///
    /// A prefix that several of them name belongs to the host: up the stack is right for everything, only slower. The
    /// platform's addresses are the platform's whoever names them.
    pub fn publish_routes(&self, of_attachments: &BTreeSet<IpAddr>) -> Result<(), DatapathError> {
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
        for address in PLATFORM_ADDRESSES {
            routes.insert(address.parse().expect("a constant prefix"), RouteClass::PLATFORM);
        }
        self.datapath.tables().set_routes(&routes)
    }
}
