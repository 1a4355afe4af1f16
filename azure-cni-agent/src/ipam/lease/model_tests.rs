//! Holds the book against a model that is too simple to be wrong: lists, searched from end to end.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::tests::id;
use super::*;

pub(in crate::ipam) const COOLDOWN_SECS: u64 = 3;
const ADDRESSES: u8 = 6;
const CONTAINERS: u32 = 8;

#[derive(Debug, Clone)]
enum Step {
    Lease(u32),
    Release(u32),
    Restore(u32, u8),
    SetPool(BTreeSet<u8>),
    Wait(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    let pool = proptest::collection::btree_set(0..ADDRESSES, 0..=usize::from(ADDRESSES));
    prop_oneof![
        8 => (0..CONTAINERS).prop_map(Step::Lease),
        6 => (0..CONTAINERS).prop_map(Step::Release),
        1 => (0..CONTAINERS, 0..ADDRESSES).prop_map(|(container, address)| Step::Restore(container, address)),
        1 => pool.prop_map(Step::SetPool),
        3 => (0..=COOLDOWN_SECS).prop_map(Step::Wait),
    ]
}

#[derive(Clone)]
pub(in crate::ipam) struct Model {
    reuse_cooling: bool,
    pub(in crate::ipam) pool: BTreeSet<u8>,
    pub(in crate::ipam) leases: BTreeMap<u32, u8>,
    /// When an address of the pool was last released.
    released: BTreeMap<u8, u64>,
}

impl Model {
    pub(in crate::ipam) fn new(reuse_cooling: bool, pool: BTreeSet<u8>) -> Self {
        Self { reuse_cooling, pool, leases: BTreeMap::new(), released: BTreeMap::new() }
    }

    fn idle(&self) -> impl Iterator<Item = u8> {
        self.pool.iter().copied().filter(|address| !self.leases.values().any(|held| held == address))
    }

    fn cooling(&self, address: u8, now: u64) -> bool {
        self.released.get(&address).is_some_and(|released| now < released + COOLDOWN_SECS)
    }

    pub(in crate::ipam) fn lease(&mut self, container: u32, now: u64) -> Result<u8, LeaseError> {
        if let Some(&address) = self.leases.get(&container) {
            return Ok(address);
        }
        let idle: Vec<u8> = self.idle().collect();
        // An address that was never released sorts first: `None` is less than any `Some`.
        let longest = idle.iter().copied().min_by_key(|address| (self.released.get(address), *address));
        match longest {
            None if self.leases.is_empty() => Err(LeaseError::Empty),
            None => Err(LeaseError::Exhausted { leased: self.leases.len() }),
            Some(address) if self.cooling(address, now) && !self.reuse_cooling => {
                let retry_in = Duration::from_secs(self.released[&address] + COOLDOWN_SECS - now);
                Err(LeaseError::Cooling { cooling: idle.len(), retry_in })
            }
            Some(address) => {
                self.leases.insert(container, address);
                Ok(address)
            }
        }
    }

    pub(in crate::ipam) fn release(&mut self, container: u32, now: u64) -> Option<u8> {
        let address = self.leases.remove(&container)?;
        self.released.insert(address, now);
        self.forget_vanished();
        Some(address)
    }

    /// Whether the lease was taken over.
    pub(in crate::ipam) fn restore(&mut self, container: u32, address: u8) -> bool {
        match self.leases.get(&container) {
            Some(&held) => held == address,
            None if self.leases.values().any(|held| *held == address) => false,
            None => self.leases.insert(container, address).is_none(),
        }
    }

    pub(in crate::ipam) fn forget_vanished(&mut self) {
        let known: BTreeSet<u8> = self.pool.iter().chain(self.leases.values()).copied().collect();
        self.released.retain(|address, _| known.contains(address));
    }

    pub(in crate::ipam) fn counts(&self, now: u64) -> Counts {
        let cooling = self.idle().filter(|address| self.cooling(*address, now)).count();
        let (idle, leased) = (self.idle().count(), self.leases.len());
        Counts { total: idle + leased, free: idle - cooling, leased, cooling }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn in_any_interleaving_no_address_is_lost_or_held_twice(
        reuse_cooling: bool,
        steps in proptest::collection::vec(any_step(), 1..80),
    ) {
        let mut book = LeaseBook::new(Duration::from_secs(COOLDOWN_SECS)).with_reuse_cooling(reuse_cooling);
        let mut model = Model::new(reuse_cooling, (0..ADDRESSES).collect());
        book.set_pool(0..ADDRESSES);
        let mut now_secs = 0;

        for step in steps {
            let now = Duration::from_secs(now_secs);
            match step {
                Step::Lease(container) => {
                    prop_assert_eq!(book.lease(&id(container), now), model.lease(container, now_secs));
                }
                Step::Release(container) => {
                    prop_assert_eq!(book.release(&id(container), now), model.release(container, now_secs));
                }
                Step::Restore(container, address) => {
                    prop_assert_eq!(book.restore(&id(container), address).is_ok(), model.restore(container, address));
                }
                Step::SetPool(pool) => {
                    book.set_pool(pool.iter().copied());
                    model.pool = pool;
                    model.forget_vanished();
                }
                Step::Wait(secs) => now_secs += secs,
            }

            let now = Duration::from_secs(now_secs);
            prop_assert_eq!(book.counts(now), model.counts(now_secs));
            for container in 0..CONTAINERS {
                prop_assert_eq!(book.lease_of(&id(container)), model.leases.get(&container).copied());
            }
            for address in 0..ADDRESSES {
                let holders: Vec<_> =
                    model.leases.iter().filter(|(_, held)| **held == address).map(|(container, _)| id(*container)).collect();
                prop_assert!(holders.len() <= 1);
                prop_assert_eq!(book.holder(address), holders.first());
            }
        }
    }
}
