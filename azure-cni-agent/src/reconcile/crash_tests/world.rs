//! An agent and the machine it runs on, step by step.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use azure_cni_api::AddressRequest;
use azure_cni_api::Bandwidth;
use azure_cni_api::boot_time::BootTime;
use azure_cni_api::cni::AttachmentId;
use azure_cni_api::names;
use azure_cni_datapath::{EndpointEntry, Hook};
use azure_cni_ipam::{Addresses, Leases};
use tempfile::TempDir;

use crate::net::{Link, NetnsId};
use crate::reconcile::grace::Grace;
use crate::reconcile::node_state::{Life, NodeState};
use crate::reconcile::plan::{Action, Repair, plan};
use crate::reconcile::recover_records::Kernel;
use crate::reconcile::tests::veth_of;
use crate::state::{AttachmentRecord, Store};

pub const CONTAINERS: u8 = 5;
pub const ADDRESSES: u8 = 4;
pub const COOLDOWN: Duration = Duration::from_secs(3);
const GRACE: Duration = Duration::from_secs(2);

pub fn id(container: u8) -> AttachmentId {
    AttachmentId {
        network: "azure".parse().unwrap(),
        container_id: format!("c{container}").parse().unwrap(),
        ifname: "eth0".parse().unwrap(),
    }
}

pub fn address(number: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, number).into()
}

/// An agent and the machine it runs on.
pub struct World {
    pub dir: TempDir,
    pub store: Option<Store>,
    pub leases: Leases,
    pub grace: Grace,
    pub pool: BTreeSet<u8>,
    pub now: Duration,
    pub links: BTreeMap<String, Link>,
    pub map_entries: BTreeMap<IpAddr, EndpointEntry>,
    /// By container. Numbers are never used again.
    pub namespaces: BTreeMap<u8, NetnsId>,
    /// When the addresses of deleted pods were released, as long as it is known anywhere.
    pub cooling: BTreeMap<IpAddr, Duration>,
    last_number: u32,
}

impl World {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut world = Self {
            store: None,
            leases: Leases::new(COOLDOWN, false),
            grace: Grace::new(GRACE),
            pool: (0..ADDRESSES).collect(),
            now: Duration::from_secs(100),
            links: BTreeMap::new(),
            map_entries: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            cooling: BTreeMap::new(),
            last_number: 1,
            dir,
        };
        world.start_agent();
        world
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    pub fn records(&self) -> Vec<AttachmentRecord> {
        self.store().all()
    }

    fn path(container: u8) -> PathBuf {
        format!("/run/netns/c{container}").into()
    }

    fn netns_id(&self, path: &Path) -> Option<NetnsId> {
        let found = self.namespaces.iter().find(|(container, _)| Self::path(**container) == path);
        found.map(|(_, netns_id)| *netns_id)
    }

    fn number(&mut self) -> u32 {
        self.last_number += 1;
        self.last_number
    }

    /// What was in memory is gone; what is in the file and in the kernel comes back.
    pub fn start_agent(&mut self) {
        drop(self.store.take());
        self.store = Some(Store::open(self.dir.path(), "boot").unwrap());
        self.leases = Leases::new(COOLDOWN, false);
        self.leases.set_pool(self.pool.iter().map(|number| address(*number)));
        self.grace = Grace::new(GRACE);
        if self.store().is_unfinished() {
            let kernel = Kernel {
                boot_id: "boot".to_owned(),
                links: self.links.values().cloned().collect(),
                map_entries: self.map_entries.clone(),
                ..Kernel::default()
            };
            let mut records = kernel.records(|path| self.netns_id(path));
            records.retain(|record| self.store().lacks(record));
            self.store().finish(&records).unwrap();
            assert!(!self.store().is_unfinished());
        }
        for (address, at) in self.store().released_since(self.now.saturating_sub(COOLDOWN)) {
            self.leases.restore_released(address, at);
        }
        for (id, addresses) in self.observe().to_restore() {
            self.leases.restore(&id, addresses).unwrap();
        }
        let actions = plan(&self.observe(), &mut Grace::new(Duration::ZERO), self.now);
        self.execute(actions);
    }

    pub fn observe(&self) -> NodeState {
        let records = self.records();
        let attached = |name: &String| (name.clone(), Hook::ENDPOINT.to_vec());
        let life = |record: &AttachmentRecord| {
            let lives = self.netns_id(&record.netns).is_some_and(|found| Some(found) == record.netns_id);
            (record.id.clone(), if lives { Life::Lives } else { Life::Gone })
        };
        NodeState {
            boot_id: "boot".to_owned(),
            node_addresses: Addresses::first_of_each([address(200)]),
            leases: self.leases.all().map(|(id, addresses)| (id.clone(), addresses)).collect(),
            links: self.links.clone(),
            map_entries: self.map_entries.clone(),
            programs: self.links.keys().map(attached).collect(),
            namespaces: records.iter().map(life).collect(),
            records,
            ..NodeState::default()
        }
    }

    fn make_veth(&mut self, id: &AttachmentId, netns: &Path) -> u32 {
        let index = self.number();
        let link = veth_of(id, netns, index);
        self.links.insert(link.name.clone(), link);
        index
    }

    fn set_map_entries(&mut self, addresses: Addresses, ifindex: u32, id: &AttachmentId) {
        let entry = EndpointEntry::at(ifindex).with_mac(names::pod_mac(id));
        self.map_entries.extend(addresses.iter().map(|address| (address, entry)));
    }

    /// Returns whether the agent has died in it.
    pub fn add(&mut self, container: u8, asked: Option<u8>, dies_after: Option<usize>) -> bool {
        let (id, netns) = (id(container), Self::path(container));
        let number = self.number();
        let new = NetnsId { device: 4, inode: number.into() };
        let netns_id = *self.namespaces.entry(container).or_insert(new);
        if let Some(record) = self.store().get(&id) {
            let link = self.links.get(&record.host_interface);
            if record.netns_id == Some(netns_id) && link.is_some_and(|link| link.index == record.host_ifindex) {
                return false;
            }
            self.del(container, None);
        }
        let mut steps = 0;
        let mut dies = || {
            steps += 1;
            dies_after == Some(steps - 1)
        };
        if dies() {
            return true;
        }
        let address_request = AddressRequest { addresses: asked.map(address).into_iter().collect(), public: false };
        let had = self.leases.lease_of(&id);
        let Ok(addresses) = self.leases.lease(&id, &address_request, self.now) else { return false };
        if had.is_none() {
            let released = addresses.iter().filter_map(|address| self.cooling.remove(&address));
            released.for_each(|at| assert!(self.now >= at + COOLDOWN, "handed out while it cools down"));
        }
        if dies() {
            return true;
        }
        let host_ifindex = self.make_veth(&id, &netns);
        if dies() {
            return true;
        }
        self.set_map_entries(addresses, host_ifindex, &id);
        if dies() {
            return true;
        }
        let record = AttachmentRecord {
            addresses: addresses.iter().collect(),
            host_interface: names::host_interface(&id),
            host_ifindex,
            pod_mac: names::pod_mac(&id),
            netns,
            netns_id: Some(netns_id),
            boot_id: "boot".to_owned(),
            mtu: 1500,
            via_host: vec![],
            own_table: false,
            keep_source: false,
            bandwidth: Bandwidth::UNLIMITED,
            requested_at: BootTime::BOOT,
            recorded_at: BootTime::BOOT,
            id,
        };
        self.store().put(&record).unwrap();
        dies()
    }

    /// Returns whether the agent has died in it.
    pub fn del(&mut self, container: u8, dies_after: Option<usize>) -> bool {
        let (id, mut steps) = (id(container), 0);
        let mut dies = || {
            steps += 1;
            dies_after == Some(steps - 1)
        };
        let held = self.leases.lease_of(&id);
        if dies() {
            return true;
        }
        // No two releases of one attachment have the same time: the store names its files by it.
        self.now += Duration::from_nanos(1);
        if self.store().remove(&id, self.now).unwrap() {
            self.cooling.extend(held.iter().flat_map(Addresses::iter).map(|address| (address, self.now)));
        }
        if dies() {
            return true;
        }
        for address in held.iter().flat_map(Addresses::iter) {
            self.map_entries.remove(&address);
        }
        if dies() {
            return true;
        }
        self.links.remove(&names::host_interface(&id));
        if dies() {
            return true;
        }
        self.leases.release(&id, self.now);
        dies()
    }

    pub fn execute(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Release { id, .. } | Action::DropLease { id } => {
                    let container = (0..CONTAINERS).find(|container| self::id(*container) == id).unwrap();
                    self.del(container, None);
                }
                Action::RemoveLink { name, index } => {
                    assert_eq!(self.links.remove(&name).map(|link| link.index), Some(index));
                }
                Action::RemoveMapEntry { address } => drop(self.map_entries.remove(&address)),
                Action::Rebuild { id } => {
                    let record = self.store().get(&id).unwrap();
                    let addresses = Addresses::first_of_each(record.addresses.iter().copied()).unwrap();
                    let host_ifindex = self.make_veth(&id, &record.netns);
                    self.set_map_entries(addresses, host_ifindex, &id);
                    self.store().put(&AttachmentRecord { host_ifindex, ..record }).unwrap();
                }
                Action::Repair { id, index, missing, .. } => {
                    for repair in missing {
                        if let Repair::MapEntry(address) = repair {
                            self.set_map_entries(Addresses::first_of_each([address]).unwrap(), index, &id);
                        }
                    }
                }
                Action::Unpin { .. } => unreachable!("nothing is pinned here"),
            }
        }
    }

    /// The kernel takes a namespace's veths down with it.
    pub fn end_namespace(&mut self, container: u8) {
        self.namespaces.remove(&container);
        self.links.remove(&names::host_interface(&id(container)));
    }
}
