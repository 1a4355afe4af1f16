//! Agents that die between any two steps of ADD and DEL, namespaces that end, veths and stores that are lost, in any order:
//! one holder per address, and no address is lost.
//!
//! The lease books, the store with its file, the planner and the recording anew are the real ones. The kernel is modelled.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use azure_cni_common::layout::EndpointFlags;
use proptest::prelude::*;
use tempfile::TempDir;

use super::grace::Grace;
use super::plan::{Action, Repair, plan};
use super::rebuild::Kernel;
use super::seen::{Life, Seen};
use crate::cni::AttachmentId;
use crate::datapath::{Endpoint as MapEntry, Hook};
use crate::endpoint::{self, label};
use crate::ipam::{Addresses, Leases, Wish};
use crate::net::{Link, NetnsId};
use crate::state::{AttachmentRecord, FILE_NAME, Store};

const CONTAINERS: u8 = 5;
const ADDRESSES: u8 = 4;
const COOLDOWN: Duration = Duration::from_secs(3);
const GRACE: Duration = Duration::from_secs(2);

#[derive(Debug, Clone)]
enum Event {
    /// The agent dies after this many steps; `None`: it does not.
    Add(u8, Option<u8>, Option<usize>),
    Del(u8, Option<usize>),
    NamespaceEnds(u8),
    VethIsLost(u8),
    Refresh(BTreeSet<u8>),
    Round,
    Wait(u64),
    Crash,
    StoreIsLost,
}

fn any_event() -> impl Strategy<Value = Event> {
    let container = || 0..CONTAINERS;
    let dies_after = || proptest::option::weighted(0.4, 0..5_usize);
    let asked = proptest::option::weighted(0.2, 0..ADDRESSES);
    prop_oneof![
        8 => (container(), asked, dies_after()).prop_map(|(c, asked, steps)| Event::Add(c, asked, steps)),
        5 => (container(), dies_after()).prop_map(|(c, steps)| Event::Del(c, steps)),
        2 => container().prop_map(Event::NamespaceEnds),
        1 => container().prop_map(Event::VethIsLost),
        1 => proptest::collection::btree_set(0..ADDRESSES, 0..=usize::from(ADDRESSES)).prop_map(Event::Refresh),
        2 => Just(Event::Round),
        2 => (0..4_u64).prop_map(Event::Wait),
        1 => Just(Event::Crash),
        1 => Just(Event::StoreIsLost),
    ]
}

fn id(container: u8) -> AttachmentId {
    AttachmentId {
        network: "azure".parse().unwrap(),
        container_id: format!("c{container}").parse().unwrap(),
        ifname: "eth0".parse().unwrap(),
    }
}

fn address(number: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, number).into()
}

/// An agent and the machine it runs on.
struct World {
    dir: TempDir,
    store: Option<Store>,
    leases: Leases,
    grace: Grace,
    pool: BTreeSet<u8>,
    now: Duration,
    links: BTreeMap<String, Link>,
    map_entries: BTreeMap<IpAddr, MapEntry>,
    /// By container. Numbers are never used again.
    namespaces: BTreeMap<u8, NetnsId>,
    last_number: u32,
}

impl World {
    fn new() -> Self {
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
            last_number: 1,
            dir,
        };
        world.start_agent();
        world
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn records(&self) -> Vec<AttachmentRecord> {
        self.store().all().unwrap()
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
    fn start_agent(&mut self) {
        drop(self.store.take());
        self.store = Some(Store::open(self.dir.path()).unwrap());
        self.leases = Leases::new(COOLDOWN, false);
        self.leases.set_pool(self.pool.iter().map(|number| address(*number)));
        self.grace = Grace::new(GRACE);
        if self.store().is_new() {
            let kernel = Kernel {
                boot_id: "boot".to_owned(),
                links: self.links.values().cloned().collect(),
                map_entries: self.map_entries.clone(),
                ..Kernel::default()
            };
            for record in kernel.records(|path| self.netns_id(path)) {
                self.store().put(&record).unwrap();
            }
        }
        for (id, addresses) in self.look().to_restore() {
            self.leases.restore(&id, addresses).unwrap();
        }
        let actions = plan(&self.look(), &mut Grace::new(Duration::ZERO), self.now);
        self.carry_out(actions);
    }

    fn look(&self) -> Seen {
        let records = self.records();
        let attached = |name: &String| (name.clone(), Hook::ENDPOINT.to_vec());
        let life = |record: &AttachmentRecord| {
            let lives = self.netns_id(&record.netns).is_some_and(|found| Some(found) == record.netns_id);
            (record.id.clone(), if lives { Life::Lives } else { Life::Gone })
        };
        Seen {
            boot_id: "boot".to_owned(),
            node_addresses: Addresses::first_of_each([address(200)]),
            leases: self.leases.all().map(|(id, addresses)| (id.clone(), addresses)).collect(),
            links: self.links.clone(),
            map_entries: self.map_entries.clone(),
            programs: self.links.keys().map(attached).collect(),
            namespaces: records.iter().map(life).collect(),
            records,
            ..Seen::default()
        }
    }

    fn make_veth(&mut self, id: &AttachmentId, netns: &Path) -> u32 {
        let (name, index) = (endpoint::host_interface(id), self.number());
        let link = Link {
            index,
            name: name.clone(),
            mac: endpoint::HOST_MAC,
            mtu: 1500,
            is_up: true,
            is_running: true,
            is_veth: true,
            group: label::GROUP,
            alias: Some(label::alias(id, netns)),
        };
        self.links.insert(name, link);
        index
    }

    fn set_map_entries(&mut self, addresses: Addresses, ifindex: u32) {
        let entry = MapEntry { ifindex, flags: EndpointFlags::NONE };
        self.map_entries.extend(addresses.iter().map(|address| (address, entry)));
    }

    /// Whether the agent has died in it.
    fn add(&mut self, container: u8, asked: Option<u8>, dies_after: Option<usize>) -> bool {
        let (id, netns) = (id(container), Self::path(container));
        let number = self.number();
        let new = NetnsId { device: 4, inode: number.into() };
        let netns_id = *self.namespaces.entry(container).or_insert(new);
        if let Some(record) = self.store().get(&id).unwrap() {
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
        let wish = Wish { addresses: asked.map(address).into_iter().collect(), public: false };
        let Ok(addresses) = self.leases.lease(&id, &wish, self.now) else { return false };
        if dies() {
            return true;
        }
        let host_ifindex = self.make_veth(&id, &netns);
        if dies() {
            return true;
        }
        self.set_map_entries(addresses, host_ifindex);
        if dies() {
            return true;
        }
        let record = AttachmentRecord {
            addresses: addresses.iter().collect(),
            host_interface: endpoint::host_interface(&id),
            host_ifindex,
            pod_mac: endpoint::pod_mac(&id),
            netns,
            netns_id: Some(netns_id),
            boot_id: "boot".to_owned(),
            mtu: 1500,
            via_host: vec![],
            keep_source: false,
            id,
        };
        self.store().put(&record).unwrap();
        dies()
    }

    /// Likewise.
    fn del(&mut self, container: u8, dies_after: Option<usize>) -> bool {
        let (id, mut steps) = (id(container), 0);
        let mut dies = || {
            steps += 1;
            dies_after == Some(steps - 1)
        };
        let held = self.leases.lease_of(&id);
        if dies() {
            return true;
        }
        self.store().remove(&id).unwrap();
        if dies() {
            return true;
        }
        for address in held.iter().flat_map(Addresses::iter) {
            self.map_entries.remove(&address);
        }
        if dies() {
            return true;
        }
        self.links.remove(&endpoint::host_interface(&id));
        if dies() {
            return true;
        }
        self.leases.release(&id, self.now);
        dies()
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
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
                    let record = self.store().get(&id).unwrap().unwrap();
                    let addresses = Addresses::first_of_each(record.addresses.iter().copied()).unwrap();
                    let host_ifindex = self.make_veth(&id, &record.netns);
                    self.set_map_entries(addresses, host_ifindex);
                    self.store().put(&AttachmentRecord { host_ifindex, ..record }).unwrap();
                }
                Action::Repair { index, missing, .. } => {
                    for repair in missing {
                        if let Repair::MapEntry(address) = repair {
                            self.set_map_entries(Addresses::first_of_each([address]).unwrap(), index);
                        }
                    }
                }
                Action::Unpin { .. } => unreachable!("nothing is pinned here"),
            }
        }
    }

    /// The kernel takes a namespace's veths down with it.
    fn end_namespace(&mut self, container: u8) {
        self.namespaces.remove(&container);
        self.links.remove(&endpoint::host_interface(&id(container)));
    }

    fn happen(&mut self, event: Event) {
        let dead = match event {
            Event::Add(container, asked, dies_after) => self.add(container, asked, dies_after),
            Event::Del(container, dies_after) => self.del(container, dies_after),
            Event::NamespaceEnds(container) => {
                self.end_namespace(container);
                false
            }
            Event::VethIsLost(container) => {
                self.links.remove(&endpoint::host_interface(&id(container)));
                false
            }
            Event::Refresh(pool) => {
                self.leases.set_pool(pool.iter().map(|number| address(*number)));
                self.pool = pool;
                false
            }
            Event::Round => {
                let seen = self.look();
                let actions = plan(&seen, &mut self.grace, self.now);
                self.carry_out(actions);
                false
            }
            Event::Wait(secs) => {
                self.now += Duration::from_secs(secs);
                false
            }
            Event::Crash => true,
            Event::StoreIsLost => {
                drop(self.store.take());
                std::fs::remove_file(self.dir.path().join(FILE_NAME)).unwrap();
                true
            }
        };
        if dead {
            self.start_agent();
            self.check_in_line();
        }
        self.check_one_holder();
    }

    /// True after every event: no address has two holders, none is lost, and book and file say the same.
    fn check_one_holder(&self) {
        let mut held = BTreeMap::new();
        for record in self.records() {
            for address in &record.addresses {
                assert_eq!(held.insert(*address, record.id.clone()), None, "{address} has two holders");
            }
            assert_eq!(self.leases.lease_of(&record.id), Addresses::first_of_each(record.addresses));
        }
        assert_eq!(self.leases.all().count(), held.len());
        let known: BTreeSet<IpAddr> =
            self.pool.iter().map(|number| address(*number)).chain(held.keys().copied()).collect();
        assert_eq!(self.leases.counts(self.now).v4.total, known.len(), "an address was lost");
    }

    /// True after every start: what is recorded stands, and nothing else does.
    fn check_in_line(&self) {
        let records = self.records();
        let links: BTreeMap<_, _> = records.iter().map(|r| (r.host_interface.clone(), r.host_ifindex)).collect();
        assert_eq!(self.links.values().map(|link| (link.name.clone(), link.index)).collect::<BTreeMap<_, _>>(), links);
        let entries: BTreeMap<IpAddr, u32> =
            records.iter().flat_map(|r| r.addresses.iter().map(|address| (*address, r.host_ifindex))).collect();
        let found: BTreeMap<_, _> = self.map_entries.iter().map(|(address, entry)| (*address, entry.ifindex)).collect();
        assert_eq!(found, entries);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_is_lost_and_whenever_the_agent_dies_no_address_is_lost_or_held_twice(
        events in proptest::collection::vec(any_event(), 1..50),
    ) {
        let mut world = World::new();
        for event in events {
            world.happen(event);
        }
        // The runtime deletes all pods: all addresses of the pool can be handed out again.
        world.happen(Event::Crash);
        (0..CONTAINERS).for_each(|container| drop(world.del(container, None)));
        world.happen(Event::Wait(COOLDOWN.as_secs()));
        world.namespaces.clear();
        let asked: Vec<u8> = world.pool.iter().copied().collect();
        for (container, number) in (10..).zip(asked) {
            let lease = world.leases.lease(&id(container), &Wish { addresses: vec![address(number)], public: false }, world.now);
            prop_assert!(lease.is_ok(), "{lease:?}");
        }
        prop_assert!(world.links.is_empty() && world.map_entries.is_empty() && world.records().is_empty());
    }
}
