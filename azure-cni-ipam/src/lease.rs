//! Who holds which address: the pool's addresses, one holder each, and the order in which free ones are handed out.
//!
//! The address that has been free for longest goes first, one with a public address of its own after all others. A
//! released one cools down before it goes again, so that packets on their way to the old pod do not reach a new one. An
//! address that leaves the pool while held stays its holder's until released. The time is an argument: the time since any
//! fixed point, the same for all calls.

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
use idle::{Idle, Waiting};

/// How the addresses stand at one moment; `total` is the sum of the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub total: usize,
    /// Ready to be handed out.
    pub free: usize,
    /// Held, among them those that have left the pool.
    pub leased: usize,
    /// Held by nobody, and not to be handed out yet.
    pub cooling: usize,
}

#[derive(Debug, Clone)]
enum Slot {
    /// In the pool and held by nobody since then; `None`: not held since it was listed.
    Idle(Option<Duration>),
    /// `listed` is false once the pool has lost the address: it is forgotten when released.
    Leased { holder: AttachmentId, listed: bool },
}

#[derive(Debug, Clone)]
pub struct LeaseBook<A> {
    cooldown: Duration,
    reuse_cooling: bool,
    slots: HashMap<A, Slot>,
    leases: HashMap<AttachmentId, A>,
    idle: Idle<A>,
    /// When addresses that are not in the pool were released: should they come back, they go on cooling down.
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

    /// Whether to hand out an address that is still cooling down when no other is left.
    pub fn with_reuse_cooling(self, reuse_cooling: bool) -> Self {
        Self { reuse_cooling, ..self }
    }

    /// Makes these the pool's addresses. A free one that is not among them is forgotten at once, a held one when it
    /// is released.
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

    /// Makes these the addresses that have a public address of their own, in the pool or not.
    pub fn set_public(&mut self, public: impl IntoIterator<Item = A>) {
        self.idle.set_public(public.into_iter().collect());
    }

    /// An address as chosen; the one that the attachment has, if it has one and that is what it asks for.
    pub fn lease(&mut self, id: &AttachmentId, choice: Choice<A>, now: Duration) -> Result<A, LeaseError<A>> {
        let address = self.would_lease(id, choice, now)?;
        if let Some(Slot::Idle(since)) = self.slots.get(&address) {
            self.idle.remove((*since, address));
            self.slots.insert(address, Slot::Leased { holder: id.clone(), listed: true });
            self.leases.insert(id.clone(), address);
        }
        Ok(address)
    }

    /// What [`Self::lease`] would give now: for a lease that is worth nothing without another.
    pub fn would_lease(&self, id: &AttachmentId, choice: Choice<A>, now: Duration) -> Result<A, LeaseError<A>> {
        if let Some(&held) = self.leases.get(id) {
            return self.still(held, choice);
        }
        match choice {
            Choice::This(address) => self.this(address, now),
            Choice::Any => self.first_of(&[false, true], now),
            Choice::Public if self.idle.longest(true).is_none() => Err(self.nothing_public()),
            Choice::Public => self.first_of(&[true], now),
        }
    }

    /// Whether what an attachment has is what it asks for.
    fn still(&self, held: A, choice: Choice<A>) -> Result<A, LeaseError<A>> {
        match choice {
            Choice::This(asked) if asked != held => Err(LeaseError::HoldsAnother { held, asked }),
            Choice::Public if !self.is_public(held) => Err(LeaseError::HoldsNoPublic { held }),
            _ => Ok(held),
        }
    }

    fn this(&self, address: A, now: Duration) -> Result<A, LeaseError<A>> {
        match self.slots.get(&address) {
            None => Err(LeaseError::NotInPool { address }),
            Some(Slot::Leased { holder, .. }) => Err(LeaseError::Held { address, holder: holder.clone() }),
            Some(Slot::Idle(since)) => match self.cooling_left(*since, now).filter(|_| !self.reuse_cooling) {
                Some(retry_in) => Err(LeaseError::AddressCooling { address, retry_in }),
                None => Ok(address),
            },
        }
    }

    /// The first that has cooled down, of addresses with or without a public one. Of each kind the longest idle stands for
    /// all: whoever is idle for less long is cooling down too.
    fn first_of(&self, kinds: &[bool], now: Duration) -> Result<A, LeaseError<A>> {
        let longest = || kinds.iter().filter_map(|public| self.idle.longest(*public));
        let ready = |(since, _): &Waiting<A>| self.reuse_cooling || self.cooling_left(*since, now).is_none();
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

    /// Takes over a lease of an earlier run, in the pool or not, cooling down or not.
    pub fn restore(&mut self, id: &AttachmentId, address: A) -> Result<(), RestoreError<A>> {
        self.would_restore(id, address)?;
        let listed = match self.slots.get(&address) {
            // Its own, as that was allowed.
            Some(Slot::Leased { .. }) => return Ok(()),
            Some(Slot::Idle(since)) => self.idle.remove((*since, address)),
            None => false,
        };
        self.slots.insert(address, Slot::Leased { holder: id.clone(), listed });
        self.leases.insert(id.clone(), address);
        Ok(())
    }

    /// Takes over when an address was released in an earlier run, in the pool or not. Nothing changes for one that is held.
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

    /// Whether [`Self::restore`] would take the lease over now.
    pub fn would_restore(&self, id: &AttachmentId, address: A) -> Result<(), RestoreError<A>> {
        match (self.leases.get(id), self.holder(address)) {
            (Some(held), _) if *held == address => Ok(()),
            (Some(held), _) => Err(RestoreError::OtherAddress { id: id.clone(), address: *held }),
            (None, Some(holder)) => Err(RestoreError::AddressHeld { address, holder: holder.clone() }),
            (None, None) => Ok(()),
        }
    }

    /// Takes the attachment's address back; `None` if it has none.
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

    /// Whether the address has a public one of its own.
    pub fn is_public(&self, address: A) -> bool {
        self.idle.public().contains(&address)
    }

    /// Everything that is held.
    pub fn all(&self) -> impl Iterator<Item = (&AttachmentId, A)> {
        self.leases.iter().map(|(id, address)| (id, *address))
    }

    /// Looks at every cooling address: for status and metrics, not for each call.
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
