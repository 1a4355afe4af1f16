//! Which attachment holds which address, and the order in which free addresses are leased.
//!
//! The address that has been free for longest comes first; those with a public address come last. A released address cools
//! down before it is leased again, so that packets on their way to the old pod do not reach a new one. An address that
//! leaves the pool while it is held stays with its holder until it is released. The time is an argument: the time since
//! any fixed point, the same for all calls.

#[cfg(test)]
pub(super) mod model_tests;
#[cfg(test)]
pub(super) mod tests;

mod choice;
mod error;
mod idle;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::fmt::{Debug, Display};
use std::hash::Hash;
use std::time::Duration;

use azure_cni_api::cni::AttachmentId;
pub use choice::Choice;
pub use error::{LeaseError, RestoreError};
use idle::{Idle, IdleSince};

/// The number of addresses in each state; `total` is the sum of the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub total: usize,
    /// Ready to be leased.
    pub free: usize,
    /// Held, including those that have left the pool.
    pub leased: usize,
    /// Not held, and not ready to be leased yet.
    pub cooling: usize,
}

#[derive(Debug, Clone)]
enum Slot {
    /// In the pool and not held since then; `None`: never held since it was listed.
    Idle(Option<Duration>),
    /// `listed` is false once the address has left the pool; it is then dropped when released.
    Leased { holder: AttachmentId, listed: bool },
}

#[derive(Debug, Clone)]
pub struct LeaseBook<A> {
    cooldown: Duration,
    reuse_cooling: bool,
    slots: HashMap<A, Slot>,
    leases: HashMap<AttachmentId, A>,
    idle: Idle<A>,
    /// When addresses outside of the pool were released: they still cool down if they come back.
    released: HashMap<A, Duration>,
}

impl<A: Copy + Ord + Hash + Debug + Display> LeaseBook<A> {
    pub fn new(cooldown: Duration) -> Self {
        Self {
            cooldown,
            reuse_cooling: false,
            slots: HashMap::new(),
            leases: HashMap::new(),
            idle: Idle::new(),
            released: HashMap::new(),
        }
    }

    /// Whether to lease an address that still cools down when no other is left.
    pub fn with_reuse_cooling(self, reuse_cooling: bool) -> Self {
        Self { reuse_cooling, ..self }
    }

    /// Replaces the pool's addresses. A free address that is not among them is dropped at once, a held one when it is
    /// released.
    pub fn set_pool(&mut self, addresses: impl IntoIterator<Item = A>) {
        let pool: HashSet<A> = addresses.into_iter().collect();
        self.slots.retain(|address, slot| match slot {
            Slot::Leased { listed, .. } => {
                *listed = pool.contains(address);
                true
            }
            Slot::Idle(since) => {
                let stays = pool.contains(address);
                if !stays {
                    self.idle.remove((*since, *address));
                    self.released.extend(since.map(|since| (*address, since)));
                }
                stays
            }
        });
        for address in pool {
            if let Entry::Vacant(slot) = self.slots.entry(address) {
                let since = self.released.remove(&address);
                slot.insert(Slot::Idle(since));
                self.idle.insert((since, address));
            }
        }
    }

    /// Replaces the set of addresses that have a public address of their own, in the pool or not.
    pub fn set_public(&mut self, public: impl IntoIterator<Item = A>) {
        self.idle.set_public(public.into_iter().collect());
    }

    /// Leases an address as chosen. An attachment that has an address keeps it, or gets an error if it requests another.
    pub fn lease(&mut self, id: &AttachmentId, choice: Choice<A>, now: Duration) -> Result<A, LeaseError<A>> {
        let address = self.would_lease(id, choice, now)?;
        if let Some(Slot::Idle(since)) = self.slots.get(&address) {
            self.idle.remove((*since, address));
            self.slots.insert(address, Slot::Leased { holder: id.clone(), listed: true });
            self.leases.insert(id.clone(), address);
        }
        Ok(address)
    }

    /// What [`Self::lease`] would return now, for a lease that is useless without another one.
    pub fn would_lease(&self, id: &AttachmentId, choice: Choice<A>, now: Duration) -> Result<A, LeaseError<A>> {
        if let Some(&held) = self.leases.get(id) {
            return self.confirm_held(held, choice);
        }
        match choice {
            Choice::This(address) => self.requested(address, now),
            Choice::Any => self.first_of(&[false, true], now),
            Choice::Public if self.idle.longest(true).is_none() => Err(self.nothing_public()),
            Choice::Public => self.first_of(&[true], now),
        }
    }

    /// Whether the address that an attachment holds is what it requests.
    fn confirm_held(&self, held: A, choice: Choice<A>) -> Result<A, LeaseError<A>> {
        match choice {
            Choice::This(requested) if requested != held => Err(LeaseError::HoldsAnother { held, requested }),
            Choice::Public if !self.is_public(held) => Err(LeaseError::HoldsNoPublic { held }),
            _ => Ok(held),
        }
    }

    fn requested(&self, address: A, now: Duration) -> Result<A, LeaseError<A>> {
        match self.slots.get(&address) {
            None => Err(LeaseError::NotInPool { address }),
            Some(Slot::Leased { holder, .. }) => Err(LeaseError::Held { address, holder: holder.clone() }),
            Some(Slot::Idle(since)) => match self.cooling_left(*since, now).filter(|_| !self.reuse_cooling) {
                Some(retry_in) => Err(LeaseError::AddressCooling { address, retry_in }),
                None => Ok(address),
            },
        }
    }

    /// The first address that has cooled down, of the given kinds (with or without a public address). Only the longest idle
    /// address of each kind matters: if it still cools down, so do the others.
    fn first_of(&self, kinds: &[bool], now: Duration) -> Result<A, LeaseError<A>> {
        let longest = || kinds.iter().filter_map(|public| self.idle.longest(*public));
        let ready = |(since, _): &IdleSince<A>| self.reuse_cooling || self.cooling_left(*since, now).is_none();
        if let Some((_, address)) = longest().find(ready) {
            return Ok(address);
        }
        match longest().filter_map(|(since, _)| self.cooling_left(since, now)).min() {
            Some(retry_in) => {
                let cooling = kinds.iter().map(|public| self.idle.len(*public)).sum();
                Err(LeaseError::Cooling { cooling, retry_in })
            }
            None => Err(self.nothing_idle()),
        }
    }

    /// Restores a lease of an earlier run. The address may be outside of the pool, or still cool down.
    pub fn restore(&mut self, id: &AttachmentId, address: A) -> Result<(), RestoreError<A>> {
        self.would_restore(id, address)?;
        let listed = match self.slots.get(&address) {
            // The attachment's own: `would_restore` has checked the holder.
            Some(Slot::Leased { .. }) => return Ok(()),
            Some(Slot::Idle(since)) => self.idle.remove((*since, address)),
            None => false,
        };
        self.slots.insert(address, Slot::Leased { holder: id.clone(), listed });
        self.leases.insert(id.clone(), address);
        Ok(())
    }

    /// Restores the time at which an address was released in an earlier run, in the pool or not. A held address does not
    /// change.
    pub fn restore_released(&mut self, address: A, at: Duration) {
        match self.slots.get_mut(&address) {
            Some(Slot::Idle(since)) => {
                self.idle.remove((*since, address));
                *since = Some(at);
                self.idle.insert((Some(at), address));
            }
            Some(Slot::Leased { .. }) => {}
            None => drop(self.released.insert(address, at)),
        }
    }

    /// Whether [`Self::restore`] would succeed now.
    pub fn would_restore(&self, id: &AttachmentId, address: A) -> Result<(), RestoreError<A>> {
        match (self.leases.get(id), self.holder(address)) {
            (Some(held), _) if *held == address => Ok(()),
            (Some(held), _) => Err(RestoreError::OtherAddress { id: id.clone(), address: *held }),
            (None, Some(holder)) => Err(RestoreError::AddressHeld { address, holder: holder.clone() }),
            (None, None) => Ok(()),
        }
    }

    /// Releases the attachment's address; `None` if it has none.
    pub fn release(&mut self, id: &AttachmentId, now: Duration) -> Option<A> {
        let address = self.leases.remove(id)?;
        self.released.retain(|_, at| *at + self.cooldown > now);
        if let Some(Slot::Leased { listed: true, .. }) = self.slots.remove(&address) {
            self.slots.insert(address, Slot::Idle(Some(now)));
            self.idle.insert((Some(now), address));
        } else {
            self.released.insert(address, now);
        }
        Some(address)
    }

    pub fn holder(&self, address: A) -> Option<&AttachmentId> {
        match self.slots.get(&address)? {
            Slot::Leased { holder, .. } => Some(holder),
            Slot::Idle(_) => None,
        }
    }

    pub fn lease_of(&self, id: &AttachmentId) -> Option<A> {
        self.leases.get(id).copied()
    }

    /// Whether the address has a public address of its own.
    pub fn is_public(&self, address: A) -> bool {
        self.idle.public().contains(&address)
    }

    /// All leases.
    pub fn all(&self) -> impl Iterator<Item = (&AttachmentId, A)> {
        self.leases.iter().map(|(id, address)| (id, *address))
    }

    /// Walks over all cooling addresses: for status and metrics, not for each call.
    pub fn counts(&self, now: Duration) -> Counts {
        let cooling = self.idle.count_latest(|since| self.cooling_left(since, now).is_some());
        let total = self.slots.len();
        Counts { total, free: self.idle.len(false) + self.idle.len(true) - cooling, leased: self.leases.len(), cooling }
    }

    fn cooling_left(&self, since: Option<Duration>, now: Duration) -> Option<Duration> {
        let left = since?.saturating_add(self.cooldown).saturating_sub(now);
        (!left.is_zero()).then_some(left)
    }

    fn nothing_idle(&self) -> LeaseError<A> {
        match self.leases.len() {
            0 => LeaseError::Empty,
            leased => LeaseError::Exhausted { leased },
        }
    }

    fn nothing_public(&self) -> LeaseError<A> {
        let has_some = self.idle.public().iter().any(|address| self.slots.contains_key(address));
        if has_some { LeaseError::PublicExhausted } else { LeaseError::NoPublic }
    }
}
