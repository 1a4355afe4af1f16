//! Agents that die between any two steps of ADD and DEL, namespaces that end, veths and stores that are lost, in any order:
//! one holder per address, no address is lost, and none is handed out while it cools down.
//!
//! The lease books, the store with its file, the planner and the recovery of records are the real ones. The kernel is modelled.

mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use azure_cni_api::AddressRequest;
use azure_cni_api::names;
use azure_cni_ipam::Addresses;
use proptest::prelude::*;
use world::{ADDRESSES, CONTAINERS, COOLDOWN, World, address, id};

use super::plan::plan;
use crate::state::DIR_NAME;

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
    /// The file of this container's record, if it has one, and the agent is started again.
    RecordIsDamaged(u8),
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
        2 => container().prop_map(Event::RecordIsDamaged),
    ]
}

impl World {
    fn happen(&mut self, event: Event) {
        let dead = match event {
            Event::Add(container, asked, dies_after) => self.add(container, asked, dies_after),
            Event::Del(container, dies_after) => self.del(container, dies_after),
            Event::NamespaceEnds(container) => {
                self.end_namespace(container);
                false
            }
            Event::VethIsLost(container) => {
                self.links.remove(&names::host_interface(&id(container)));
                false
            }
            Event::Refresh(pool) => {
                self.leases.set_pool(pool.iter().map(|number| address(*number)));
                self.pool = pool;
                false
            }
            Event::Round => {
                let state = self.observe();
                let actions = plan(&state, &mut self.grace, self.now);
                self.execute(actions);
                false
            }
            Event::Wait(secs) => {
                self.now += Duration::from_secs(secs);
                false
            }
            Event::Crash => true,
            Event::StoreIsLost => {
                drop(self.store.take());
                self.cooling.clear();
                std::fs::remove_dir_all(self.dir.path().join(DIR_NAME)).unwrap();
                true
            }
            Event::RecordIsDamaged(container) => {
                let name = format!("{}.json", names::host_interface(&id(container)));
                let path = self.dir.path().join(DIR_NAME).join(name);
                if path.exists() {
                    std::fs::write(path, "{").unwrap();
                }
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
        for container in 0..CONTAINERS {
            world.del(container, None);
        }
        world.happen(Event::Wait(COOLDOWN.as_secs()));
        world.namespaces.clear();
        let asked: Vec<u8> = world.pool.iter().copied().collect();
        for (container, number) in (10..).zip(asked) {
            let lease = world.leases.lease(&id(container), &AddressRequest { addresses: vec![address(number)], public: false }, world.now);
            prop_assert!(lease.is_ok(), "{lease:?}");
        }
        prop_assert!(world.links.is_empty() && world.map_entries.is_empty() && world.records().is_empty());
    }
}
