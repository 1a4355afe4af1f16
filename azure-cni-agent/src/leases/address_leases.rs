//! The pool, and the book of who holds which address.
//!
//! The rule: every address is asked for at [`Pool::withholds`] before it can be leased: here, whatever source it comes from. What
//! is withheld becomes leasable by itself once the reason has gone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use azure_cni_api::AddressRequest;
use azure_cni_api::boot_time::BootTime;
use azure_cni_api::cni::{AttachmentId, CniArgs};
use azure_cni_ipam::cns::AssignedSubnet;
use azure_cni_ipam::{
    Addresses, FamilyCounts, LeaseError, Leases, LeasesRestoreError, NoAddress, NodeAddresses, Pool, PoolSubnet,
    Withheld,
};

use super::cns::{Cns, CnsError, ensure_requested};
use super::error::NotLeased;
use crate::config::PoolConfig;

/// Every lock in here is held briefly.
pub struct AddressLeases {
    /// As the source last listed it.
    pool: RwLock<Arc<Pool>>,
    node: RwLock<Arc<NodeAddresses>>,
    book: Mutex<Leases>,
    /// Gives the addresses in place of the pool; `None`: the pool does.
    cns: Option<Cns>,
}

/// What an attachment was given, and what else the lease brought to light.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leased {
    pub addresses: Addresses,
    /// The pool has subnets since that it did not have before: routes do not know them yet.
    pub new_subnets: Vec<AssignedSubnet>,
}

impl From<Addresses> for Leased {
    fn from(addresses: Addresses) -> Self {
        Self { addresses, new_subnets: Vec::new() }
    }
}

impl AddressLeases {
    /// `host`: the addresses of the host's interfaces.
    pub fn new(config: &PoolConfig, pool: Pool, host: BTreeSet<IpAddr>, cns: Option<Cns>) -> Self {
        let book = Mutex::new(Leases::new(config.cooldown(), config.reuse_cooling));
        let node = NodeAddresses { interfaces: host, ..NodeAddresses::default() };
        let leases = Self { pool: RwLock::new(Arc::new(pool)), node: RwLock::new(Arc::new(node)), book, cns };
        leases.sync_book();
        leases
    }

    /// Lets pods get what the pool lists, without what is withheld.
    fn sync_book(&self) {
        let mut book = self.book();
        let (pool, node) = (self.pool(), self.node());
        let leasable = pool.addresses().filter(|address| pool.withholds(*address, &node).is_none());
        book.set_leasable(leasable, pool.is_dual_stack());
    }

    fn node(&self) -> Arc<NodeAddresses> {
        self.node.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change_node(&self, change: impl FnOnce(&mut NodeAddresses)) {
        change(Arc::make_mut(&mut self.node.write().unwrap_or_else(PoisonError::into_inner)));
        self.sync_book();
    }

    /// From the next lease on, no pod gets an address that the host's interfaces have, and pods get those that they no longer
    /// have. What pods hold stays theirs.
    pub fn set_host_addresses(&self, host: BTreeSet<IpAddr>) {
        self.change_node(|node| node.interfaces = host);
    }

    /// An interface of the host has this address: no pod gets it before the next [`AddressLeases::set_host_addresses`].
    pub fn withhold_from_pods(&self, address: IpAddr) {
        self.change_node(|node| _ = node.interfaces.insert(address));
    }

    /// The same for the addresses that rules of the node translate.
    pub fn set_service_addresses(&self, services: BTreeSet<IpAddr>) {
        self.change_node(|node| node.services = services);
    }

    /// Addresses that the source lists for pods, and that rules of the node translate.
    pub fn services_in_pool(&self) -> BTreeSet<IpAddr> {
        let (pool, node) = (self.pool(), self.node());
        pool.addresses().filter(|address| node.services.contains(address)).collect()
    }

    /// What the source lists for pods and no pod gets now.
    pub fn withheld(&self) -> Vec<Withheld> {
        let (pool, node) = (self.pool(), self.node());
        let now =
            pool.addresses().filter_map(|address| Some(Withheld { address, reason: pool.withholds(address, &node)? }));
        pool.withheld.iter().copied().chain(now).collect()
    }

    /// The addresses of pods that an interface of the host has too, and whose they are.
    pub fn taken_by_host(&self) -> Vec<(IpAddr, AttachmentId)> {
        self.taken(&self.node().interfaces)
    }

    /// The addresses of pods that rules of the node translate, and whose they are.
    pub fn taken_by_services(&self) -> Vec<(IpAddr, AttachmentId)> {
        self.taken(&self.node().services)
    }

    fn taken(&self, by: &BTreeSet<IpAddr>) -> Vec<(IpAddr, AttachmentId)> {
        let book = self.book();
        let held = book
            .all()
            .flat_map(|(id, addresses)| addresses.iter().map(|address| (address, id.clone())).collect::<Vec<_>>());
        held.filter(|(address, _)| by.contains(address)).collect()
    }

    /// One call works with one pool from its beginning to its end.
    pub fn pool(&self) -> Arc<Pool> {
        self.pool.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// azure-cns, if it gives the addresses.
    pub fn cns(&self) -> Option<&Cns> {
        self.cns.as_ref()
    }

    /// Gives an attachment addresses; those it has, if it has some. The caller holds the attachment's lock.
    pub async fn lease(
        &self,
        id: &AttachmentId,
        request: &AddressRequest,
        args: &CniArgs,
    ) -> Result<Leased, NotLeased> {
        match &self.cns {
            Some(cns) => Ok(self.lease_from(cns, id, request, args).await?),
            None => {
                let leased = self.book().lease(id, request, now());
                Ok(leased.map_err(|error| self.explained(error, request))?.into())
            }
        }
    }

    /// An address that was requested is not in the pool because it is withheld from it.
    fn explained(&self, error: NoAddress, request: &AddressRequest) -> NotLeased {
        let LeaseError::NotInPool { address } = error.source else { return error.into() };
        let withheld = self.withheld().into_iter().find(|withheld| withheld.address == address);
        match withheld.filter(|_| request.addresses.contains(&address)) {
            Some(Withheld { address, reason }) => NotLeased::Withheld { address, reason },
            None => error.into(),
        }
    }

    /// Whatever fails after azure-cns was asked leaves a release pending.
    async fn lease_from(
        &self,
        cns: &Cns,
        id: &AttachmentId,
        request: &AddressRequest,
        args: &CniArgs,
    ) -> Result<Leased, CnsError> {
        if let Some(held) = self.lease_of(id) {
            ensure_requested(held, request)?;
            return Ok(held.into());
        }
        let assigned = cns.assign(id, request, args).await?;
        let addresses = assigned.addresses;
        let (pool, node) = (self.pool(), self.node());
        let reasons = addresses.iter().find_map(|address| Some((address, pool.withholds(address, &node)?)));
        if let Some((address, reason)) = reasons {
            cns.release_pending();
            return Err(CnsError::Withheld { address, reason });
        }
        if let Err(held) = self.restore(id, addresses) {
            cns.release_pending();
            return Err(held.into());
        }
        cns.compare_primary(assigned.host_primary, &pool);
        Ok(Leased { addresses, new_subnets: self.add_subnets(assigned.subnets) })
    }

    /// Puts an attachment into the book with addresses that it has already.
    pub fn restore(&self, id: &AttachmentId, addresses: Addresses) -> Result<(), LeasesRestoreError> {
        self.book().restore(id, addresses)
    }

    /// Lets addresses cool down that were released before the agent started, each since its time after the boot.
    pub fn restore_released(&self, released: impl IntoIterator<Item = (IpAddr, Duration)>) {
        let mut book = self.book();
        released.into_iter().for_each(|(address, at)| book.restore_released(address, at));
    }

    /// Ends the lease of an attachment; `None` if it had none.
    pub fn release(&self, id: &AttachmentId) -> Option<Addresses> {
        let released = self.book().release(id, now());
        if let Some(cns) = &self.cns {
            cns.release_pending();
        }
        released
    }

    /// From the next lease on, pods get what this pool lists; what they hold stays theirs.
    pub fn replace_pool(&self, pool: Pool) {
        *self.pool.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(pool);
        self.sync_book();
    }

    /// Pods that ask for a public address get one of these or of the pool's public ones; other pods get them last.
    pub fn set_public(&self, configured: &[IpAddr]) {
        let public = configured.iter().chain(&self.pool().public).copied().collect();
        self.book().set_public(&public);
    }

    pub fn lease_of(&self, id: &AttachmentId) -> Option<Addresses> {
        self.book().lease_of(id)
    }

    pub fn all(&self) -> BTreeMap<AttachmentId, Addresses> {
        self.book().all().map(|(id, addresses)| (id.clone(), addresses)).collect()
    }

    /// Addresses of the pool that no attachment holds.
    pub fn free(&self) -> BTreeSet<IpAddr> {
        let book = self.book();
        self.pool().addresses().filter(|address| book.holder(*address).is_none()).collect()
    }

    /// Whether another attachment than this one holds an address.
    pub fn is_anothers(&self, id: &AttachmentId, address: IpAddr) -> bool {
        self.book().holder(address).is_some_and(|holder| holder != id)
    }

    /// Does something with an address that no attachment but this one holds; `None` if another does. No attachment gets it
    /// meanwhile.
    pub fn unless_anothers<T>(&self, id: &AttachmentId, address: IpAddr, work: impl FnOnce() -> T) -> Option<T> {
        let book = self.book();
        book.holder(address).is_none_or(|holder| holder == id).then(work)
    }

    /// Does something with an address that no attachment holds; `None` if one does. No attachment gets it meanwhile.
    pub fn with_unheld<T>(&self, address: IpAddr, work: impl FnOnce() -> T) -> Option<T> {
        let book = self.book();
        book.holder(address).is_none().then(work)
    }

    pub fn counts(&self) -> FamilyCounts {
        self.book().counts(now())
    }

    /// Whether the pool has no address for a new pod. Never with azure-cns, which has addresses of its own.
    pub fn is_exhausted(&self) -> bool {
        let counts = self.counts();
        self.cns.is_none() && (counts.v4.free == 0 || counts.v6.is_some_and(|v6| v6.free == 0))
    }

    /// Adds subnets that azure-cns gives addresses of; returns those that are new.
    fn add_subnets(&self, subnets: Vec<AssignedSubnet>) -> Vec<AssignedSubnet> {
        let is_new = |pool: &Pool, subnet: &AssignedSubnet| pool.subnets.iter().all(|it| it.prefix != subnet.prefix);
        let known = self.pool();
        let new: Vec<_> = subnets.into_iter().filter(|subnet| is_new(&known, subnet)).collect();
        if new.is_empty() {
            return new;
        }
        let mut pool = self.pool.write().unwrap_or_else(PoisonError::into_inner);
        let mut grown = (**pool).clone();
        for subnet in new.iter().filter(|subnet| is_new(&pool, subnet)) {
            tracing::info!(prefix = %subnet.prefix, "azure-cns gives addresses of this subnet");
            grown.subnets.push(PoolSubnet::outside_of_pool(subnet.prefix, subnet.gateway));
        }
        *pool = Arc::new(grown);
        new
    }

    fn book(&self) -> MutexGuard<'_, Leases> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The book's clock: the same for every run of the agent in this boot.
fn now() -> Duration {
    BootTime::now().since_boot()
}

#[cfg(test)]
mod tests {
    use azure_cni_api::MacAddress;
    use azure_cni_api::cni::sample::attachment;
    use azure_cni_ipam::{Reserved, listing};

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn addresses(v4: &str) -> Addresses {
        Addresses { v4: v4.parse().unwrap(), v6: None }
    }

    fn leases(host: &[&str]) -> AddressLeases {
        let xml = "<Interfaces><Interface MacAddress=\"*\"><IPSubnet Prefix=\"10.0.0.0/24\"><IPAddress Address=\"10.0.0.4\" \
                   IsPrimary=\"true\"/><IPAddress Address=\"10.0.0.5\"/><IPAddress Address=\"10.0.0.6\"/></IPSubnet></Interface></Interfaces>";
        let pool = Pool::for_uplink(&listing::parse(xml).unwrap(), MacAddress([2; 6])).unwrap();
        AddressLeases::new(&PoolConfig::default(), pool, host.iter().map(|text| ip(text)).collect(), None)
    }

    /// After a reboot, the record of an attachment that could not be released has no lease.
    #[test]
    fn what_another_attachment_holds_is_not_touched_for_an_old_record() {
        let leases = leases(&[]);
        let (old, new) = (attachment("old"), attachment("new"));
        assert_eq!(leases.unless_anothers(&old, ip("10.0.0.5"), || 7), Some(7));
        leases.restore(&new, addresses("10.0.0.5")).unwrap();
        assert!(leases.is_anothers(&old, ip("10.0.0.5")));
        assert_eq!(leases.unless_anothers(&old, ip("10.0.0.5"), || 7), None);
        assert!(!leases.is_anothers(&new, ip("10.0.0.5")));
        assert_eq!(leases.unless_anothers(&new, ip("10.0.0.5"), || 7), Some(7));
    }

    #[test]
    fn addresses_of_the_host_are_withheld_while_it_has_them_and_those_of_pods_are_told() {
        let leases = leases(&["10.0.0.5", "10.9.9.9"]);
        assert_eq!(leases.free(), [ip("10.0.0.5"), ip("10.0.0.6")].into());
        assert_eq!(leases.counts().v4.total, 1);
        assert_eq!(leases.withheld(), [Withheld { address: ip("10.0.0.5"), reason: Reserved::HeldByHost }]);
        leases.restore(&attachment("a"), addresses("10.0.0.6")).unwrap();
        assert!(leases.taken_by_host().is_empty());
        leases.set_host_addresses([ip("10.0.0.6")].into());
        assert_eq!(leases.taken_by_host(), [(ip("10.0.0.6"), attachment("a"))]);
        // The pod keeps it; the other one is leasable now.
        assert_eq!((leases.counts().v4.leased, leases.counts().v4.free), (1, 1));
        leases.withhold_from_pods(ip("10.0.0.5"));
        assert_eq!(leases.counts().v4.free, 0);
        leases.set_host_addresses(BTreeSet::new());
        assert!(leases.withheld().is_empty() && leases.taken_by_host().is_empty());
    }

    #[test]
    fn addresses_that_rules_translate_are_withheld_and_a_pod_that_has_one_keeps_it() {
        let leases = leases(&[]);
        leases.restore(&attachment("a"), addresses("10.0.0.6")).unwrap();
        let services = ["10.0.0.5", "10.0.0.6", "10.96.0.1"].map(ip);
        leases.set_service_addresses(services.into());
        assert_eq!(leases.services_in_pool(), [ip("10.0.0.5"), ip("10.0.0.6")].into());
        assert_eq!((leases.counts().v4.leased, leases.counts().v4.free), (1, 0));
        assert_eq!(leases.taken_by_services(), [(ip("10.0.0.6"), attachment("a"))]);
        assert!(leases.withheld().contains(&Withheld { address: ip("10.0.0.5"), reason: Reserved::OfService }));
        // What the host's interfaces have is another matter.
        leases.set_host_addresses(BTreeSet::new());
        assert_eq!(leases.counts().v4.free, 0);
        leases.set_service_addresses(BTreeSet::new());
        assert_eq!(leases.counts().v4.free, 1);
        assert!(leases.withheld().is_empty() && leases.taken_by_services().is_empty());
    }
}
