//! Compares the book with a model that is too simple to be wrong: lists, searched from end to end.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::tests::id;
use super::*;

pub(crate) const COOLDOWN_SECS: u64 = 3;
const ADDRESSES: u8 = 6;
const CONTAINERS: u32 = 8;

#[derive(Debug, Clone)]
enum Step {
    Lease(u32, Choice<u8>),
    Release(u32),
    Restore(u32, u8),
    SetPool(BTreeSet<u8>),
    SetPublic(BTreeSet<u8>),
    Wait(u64),
}

pub(crate) fn any_choice(addresses: u8) -> impl Strategy<Value = Choice<u8>> {
    prop_oneof![
        6 => Just(Choice::Any),
        1 => Just(Choice::Public),
        2 => (0..addresses).prop_map(Choice::This),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    let some = || proptest::collection::btree_set(0..ADDRESSES, 0..=usize::from(ADDRESSES));
    prop_oneof![
        8 => (0..CONTAINERS, any_choice(ADDRESSES)).prop_map(|(container, choice)| Step::Lease(container, choice)),
        6 => (0..CONTAINERS).prop_map(Step::Release),
        1 => (0..CONTAINERS, 0..ADDRESSES).prop_map(|(container, address)| Step::Restore(container, address)),
        1 => some().prop_map(Step::SetPool),
        1 => some().prop_map(Step::SetPublic),
        3 => (0..=COOLDOWN_SECS).prop_map(Step::Wait),
    ]
}

#[derive(Clone)]
pub(crate) struct Model {
    reuse_cooling: bool,
    pub(crate) pool: BTreeSet<u8>,
    pub(crate) public: BTreeSet<u8>,
    pub(crate) leases: BTreeMap<u32, u8>,
    /// When an address was last released.
    released: BTreeMap<u8, u64>,
}

impl Model {
    pub(crate) fn new(reuse_cooling: bool, pool: BTreeSet<u8>) -> Self {
        Self { reuse_cooling, pool, public: BTreeSet::new(), leases: BTreeMap::new(), released: BTreeMap::new() }
    }

    fn idle(&self) -> impl Iterator<Item = u8> {
        self.pool.iter().copied().filter(|address| !self.leases.values().any(|held| held == address))
    }

    fn cooling(&self, address: u8, now: u64) -> bool {
        self.released.get(&address).is_some_and(|released| now < released + COOLDOWN_SECS)
    }

    pub(crate) fn lease(&mut self, container: u32, choice: Choice<u8>, now: u64) -> Result<u8, LeaseError<u8>> {
        if let Some(&held) = self.leases.get(&container) {
            return match choice {
                Choice::This(requested) if requested != held => Err(LeaseError::HoldsAnother { held, requested }),
                Choice::Public if !self.public.contains(&held) => Err(LeaseError::HoldsNoPublic { held }),
                _ => Ok(held),
            };
        }
        let address = match choice {
            Choice::This(address) => self.this(address, now),
            Choice::Any => self.longest(self.idle().collect(), now),
            Choice::Public => {
                let idle: Vec<u8> = self.idle().filter(|address| self.public.contains(address)).collect();
                let known =
                    |address: &u8| self.pool.contains(address) || self.leases.values().any(|held| held == address);
                match (idle.is_empty(), self.public.iter().any(known)) {
                    (true, true) => Err(LeaseError::PublicExhausted),
                    (true, false) => Err(LeaseError::NoPublic),
                    (false, _) => self.longest(idle, now),
                }
            }
        }?;
        self.leases.insert(container, address);
        Ok(address)
    }

    fn this(&self, address: u8, now: u64) -> Result<u8, LeaseError<u8>> {
        if let Some((holder, _)) = self.leases.iter().find(|(_, held)| **held == address) {
            Err(LeaseError::Held { address, holder: id(*holder) })
        } else if !self.pool.contains(&address) {
            Err(LeaseError::NotInPool { address })
        } else if self.cooling(address, now) && !self.reuse_cooling {
            Err(LeaseError::AddressCooling { address, retry_in: self.left(address, now) })
        } else {
            Ok(address)
        }
    }

    fn left(&self, address: u8, now: u64) -> Duration {
        Duration::from_secs(self.released[&address] + COOLDOWN_SECS - now)
    }

    fn longest(&self, idle: Vec<u8>, now: u64) -> Result<u8, LeaseError<u8>> {
        let ready = idle.iter().copied().filter(|address| self.reuse_cooling || !self.cooling(*address, now));
        // An address that was never released sorts first: `None` is less than any `Some`.
        let order = |address: &u8| (self.public.contains(address), self.released.get(address).copied(), *address);
        if let Some(address) = ready.min_by_key(order) {
            return Ok(address);
        }
        match idle.iter().map(|address| self.left(*address, now)).min() {
            Some(retry_in) => Err(LeaseError::Cooling { cooling: idle.len(), retry_in }),
            None if self.leases.is_empty() => Err(LeaseError::Empty),
            None => Err(LeaseError::Exhausted { leased: self.leases.len() }),
        }
    }

    pub(crate) fn release(&mut self, container: u32, now: u64) -> Option<u8> {
        let address = self.leases.remove(&container)?;
        self.drop_vanished(now);
        self.released.insert(address, now);
        Some(address)
    }

    /// Whether the lease was restored.
    pub(crate) fn restore(&mut self, container: u32, address: u8) -> bool {
        match self.leases.get(&container) {
            Some(&held) => held == address,
            None if self.leases.values().any(|held| *held == address) => false,
            None => self.leases.insert(container, address).is_none(),
        }
    }

    /// Addresses that have left the pool still cool down, and are dropped then.
    fn drop_vanished(&mut self, now: u64) {
        let known: BTreeSet<u8> = self.pool.iter().chain(self.leases.values()).copied().collect();
        self.released.retain(|address, at| known.contains(address) || *at + COOLDOWN_SECS > now);
    }

    pub(crate) fn counts(&self, now: u64) -> Counts {
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
                Step::Lease(container, choice) => {
                    prop_assert_eq!(book.lease(&id(container), choice, now), model.lease(container, choice, now_secs));
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
                }
                Step::SetPublic(public) => {
                    book.set_public(public.iter().copied());
                    model.public = public;
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
