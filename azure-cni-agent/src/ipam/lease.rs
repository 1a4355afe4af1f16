//! Who holds which address: the pool's addresses, one holder each, and the order in which free ones are handed out.
//!
//! The address that has been free for longest goes first, and a released one cools down before it goes again, so that
//! packets on their way to the old pod do not reach a new one. An address that leaves the pool while held stays its
//! holder's until released. The time is an argument: the time since any fixed point, the same for all calls.

#[cfg(test)]
pub(super) mod model_tests;
#[cfg(test)]
pub(super) mod tests;

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::{Debug, Display};
use std::hash::Hash;
use std::time::Duration;

use crate::cni::AttachmentId;

/// Why an attachment got no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// The source lists no address that a pod may get. A retry helps once the source does.
    #[error("the pool has no address for pods")]
    Empty,
    /// A retry helps once a pod ends, or the pool grows.
    #[error("all {leased} addresses of the pool are in use")]
    Exhausted { leased: usize },
    /// Free addresses are left, and each was in use too short a time ago. A retry helps after `retry_in`.
    #[error("all {cooling} free addresses of the pool were in use a moment ago; try again in {} s", whole_secs(*.retry_in))]
    Cooling { cooling: usize, retry_in: Duration },
}

/// Why a lease of an earlier run was not taken over. A retry never helps: two records contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError<A: Debug + Display> {
    #[error("address {address} already belongs to {holder}")]
    AddressHeld { address: A, holder: AttachmentId },
    #[error("{id} already holds address {address}")]
    OtherAddress { id: AttachmentId, address: A },
}

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
    /// The idle slots, longest idle first. A tree, as restoring takes addresses from its middle; the dozen or so
    /// comparisons it costs with 16,000 addresses are nothing beside one netlink message.
    idle: BTreeSet<(Option<Duration>, A)>,
}

impl<A: Copy + Ord + Hash + Debug + Display> LeaseBook<A> {
    pub fn new(cooldown: Duration) -> Self {
        Self { cooldown, reuse_cooling: false, slots: HashMap::new(), leases: HashMap::new(), idle: BTreeSet::new() }
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
            Slot::Idle(since) => pool.contains(address) || !self.idle.remove(&(*since, *address)),
        });
        for address in pool {
            if let Entry::Vacant(slot) = self.slots.entry(address) {
                slot.insert(Slot::Idle(None));
                self.idle.insert((None, address));
            }
        }
    }

    /// The attachment's address; the one it has, if it has one.
    pub fn lease(&mut self, id: &AttachmentId, now: Duration) -> Result<A, LeaseError> {
        let address = self.would_lease(id, now)?;
        if self.leases.contains_key(id) {
            return Ok(address);
        }
        self.idle.pop_first();
        self.slots.insert(address, Slot::Leased { holder: id.clone(), listed: true });
        self.leases.insert(id.clone(), address);
        Ok(address)
    }

    /// What [`Self::lease`] would give now: for a lease that is worth nothing without another.
    pub fn would_lease(&self, id: &AttachmentId, now: Duration) -> Result<A, LeaseError> {
        if let Some(&address) = self.leases.get(id) {
            return Ok(address);
        }
        let (since, address) = *self.idle.first().ok_or_else(|| self.nothing_idle())?;
        // Whoever is idle for less long than the first is cooling down too.
        match self.cooling_left(since, now).filter(|_| !self.reuse_cooling) {
            Some(retry_in) => Err(LeaseError::Cooling { cooling: self.idle.len(), retry_in }),
            None => Ok(address),
        }
    }

    /// Takes over a lease of an earlier run, in the pool or not, cooling down or not.
    pub fn restore(&mut self, id: &AttachmentId, address: A) -> Result<(), RestoreError<A>> {
        self.would_restore(id, address)?;
        let listed = match self.slots.get(&address) {
            // Its own, as that was allowed.
            Some(Slot::Leased { .. }) => return Ok(()),
            Some(Slot::Idle(since)) => self.idle.remove(&(*since, address)),
            None => false,
        };
        self.slots.insert(address, Slot::Leased { holder: id.clone(), listed });
        self.leases.insert(id.clone(), address);
        Ok(())
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
        if let Some(Slot::Leased { listed: true, .. }) = self.slots.remove(&address) {
            self.slots.insert(address, Slot::Idle(Some(now)));
            self.idle.insert((Some(now), address));
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

    /// Looks at every cooling address: for status and metrics, not for each call.
    pub fn counts(&self, now: Duration) -> Counts {
        let longest_last = self.idle.iter().rev();
        let cooling = longest_last.take_while(|(since, _)| self.cooling_left(*since, now).is_some()).count();
        let total = self.slots.len();
        Counts { total, free: self.idle.len() - cooling, leased: self.leases.len(), cooling }
    }

    fn cooling_left(&self, since: Option<Duration>, now: Duration) -> Option<Duration> {
        let left = since?.saturating_add(self.cooldown).saturating_sub(now);
        (!left.is_zero()).then_some(left)
    }

    fn nothing_idle(&self) -> LeaseError {
        match self.leases.len() {
            0 => LeaseError::Empty,
            leased => LeaseError::Exhausted { leased },
        }
    }
}

/// Rounded up: who retries after that many seconds does not come too early.
fn whole_secs(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}
