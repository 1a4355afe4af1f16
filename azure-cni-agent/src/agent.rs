//! What the agent knows and holds: the node, the pool, the leases, the data path and the records on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use azure_cni_common::layout::RouteClass;
use ipnet::IpNet;

use crate::cni::AttachmentId;
use crate::commands::Faults;
use crate::config::AgentConfig;
use crate::datapath::{Datapath, DatapathError};
use crate::ipam::{Counts, LeaseBook, LeaseError, Pool, RestoreError};
use crate::net::{Link, Netlink};
use crate::state::{AttachmentRecord, Store, StoreError};
use crate::turns::Turns;

/// The running agent. Everything in it is locked on its own and briefly; [`Turns`] orders the calls.
pub struct Agent {
    pub config: AgentConfig,
    pub uplink: Link,
    pub pool: Pool,
    pub netlink: Netlink,
    pub datapath: Datapath,
    pub turns: Turns,
    pub faults: Faults,
    /// Names this run of the kernel: what was recorded in another one is gone.
    pub boot_id: String,
    pub(crate) store: Arc<Store>,
    pub(crate) leases: Mutex<LeaseBook<Ipv4Addr>>,
    /// The node's own addresses, as last seen.
    pub(crate) node_addresses: Mutex<BTreeSet<Ipv4Addr>>,
    pub(crate) started: Instant,
}

impl Agent {
    /// Bytes, of pod interfaces: what the network asks for, else what the agent's configuration says, else the uplink's.
    pub fn pod_mtu(&self, asked: Option<u32>) -> u32 {
        asked.or(self.config.datapath.mtu).unwrap_or(self.uplink.mtu)
    }

    /// The lease book's clock: time since the agent started.
    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    pub fn lease(&self, id: &AttachmentId) -> Result<Ipv4Addr, LeaseError> {
        self.leases().lease(id, self.now())
    }

    /// Gives an attachment of an earlier run its address again.
    pub fn restore_lease(&self, id: &AttachmentId, address: Ipv4Addr) -> Result<(), RestoreError<Ipv4Addr>> {
        self.leases().restore(id, address)
    }

    pub fn release(&self, id: &AttachmentId) -> Option<Ipv4Addr> {
        self.leases().release(id, self.now())
    }

    pub fn lease_of(&self, id: &AttachmentId) -> Option<Ipv4Addr> {
        self.leases().lease_of(id)
    }

    pub fn pool_counts(&self) -> Counts {
        self.leases().counts(self.now())
    }

    fn leases(&self) -> MutexGuard<'_, LeaseBook<Ipv4Addr>> {
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

    /// Every attachment there is a record of.
    pub async fn records(&self) -> Result<Vec<AttachmentRecord>, StoreError> {
        self.with_store(|store| store.all()).await
    }

    /// Makes the data path's route table say what configuration, node and attachments say.
    ///
    /// A prefix that several of them name belongs to the host: up the stack is right for everything, only slower.
    pub fn publish_routes(&self, of_attachments: &BTreeSet<Ipv4Addr>) -> Result<(), DatapathError> {
        let mut routes = BTreeMap::new();
        let subnets = self.pool.subnets.iter().map(|subnet| subnet.prefix);
        for prefix in subnets.chain(self.config.routing.vnet_prefixes.iter().copied()) {
            routes.insert(IpNet::V4(prefix.trunc()), RouteClass::VNET);
        }
        for prefix in self.config.routing.service_prefixes.iter().flatten() {
            routes.insert(IpNet::V4(prefix.trunc()), RouteClass::HOST);
        }
        let node_addresses = self.node_addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let configured = self.config.routing.host_addresses.iter();
        for address in configured.chain(node_addresses.iter()).chain(of_attachments) {
            routes.insert(IpNet::from(IpAddr::V4(*address)), RouteClass::HOST);
        }
        self.datapath.tables().set_routes(&routes)
    }
}
