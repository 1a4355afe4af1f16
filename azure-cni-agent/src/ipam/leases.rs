//! The leases of pods that have an address of each family: one book for IPv4, one for IPv6.
//!
//! The rule: both or none. What a pod needs is looked at in both books before either is changed, so that a pod that
//! cannot have the second address does not hold the first, and does not make it cool down unused.

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::addresses::Addresses;
use super::lease::{Counts, LeaseBook, LeaseError, RestoreError};
use super::wish::Wish;
use crate::cni::AttachmentId;

/// Why a pod got no addresses, and of which family there was none. Whether a retry helps is the cause's to say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no {family} address for the pod: {source}")]
pub struct NoAddress {
    pub family: &'static str,
    pub source: LeaseError,
}

/// Why leases of an earlier run were not taken over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeasesRestoreError {
    #[error(transparent)]
    V4(#[from] RestoreError<Ipv4Addr>),
    #[error(transparent)]
    V6(#[from] RestoreError<Ipv6Addr>),
}

/// How the addresses of each family stand at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FamilyCounts {
    pub v4: Counts,
    /// `None`: the pool has no IPv6 address, and nobody holds one.
    pub v6: Option<Counts>,
}

#[derive(Debug, Clone)]
pub struct Leases {
    v4: LeaseBook<Ipv4Addr>,
    v6: LeaseBook<Ipv6Addr>,
    /// New pods get an IPv6 address too: the pool has some.
    dual_stack: bool,
}

impl Leases {
    pub fn new(cooldown: Duration, reuse_cooling: bool) -> Self {
        Self {
            v4: LeaseBook::new(cooldown).with_reuse_cooling(reuse_cooling),
            v6: LeaseBook::new(cooldown).with_reuse_cooling(reuse_cooling),
            dual_stack: false,
        }
    }

    /// Makes these the pool's addresses; see [`LeaseBook::set_pool`].
    pub fn set_pool(&mut self, addresses: impl IntoIterator<Item = IpAddr>) {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for address in addresses {
            match address {
                IpAddr::V4(address) => v4.push(address),
                IpAddr::V6(address) => v6.push(address),
            }
        }
        self.dual_stack = !v6.is_empty();
        self.v4.set_pool(v4);
        self.v6.set_pool(v6);
    }

    /// One address of each family that the pool has; the attachment's own, if it has some.
    pub fn lease(&mut self, id: &AttachmentId, _wish: &Wish, now: Duration) -> Result<Addresses, NoAddress> {
        if let Some(held) = self.lease_of(id) {
            return Ok(held);
        }
        let none_of = |family| move |source| NoAddress { family, source };
        if self.dual_stack {
            self.v6.would_lease(id, now).map_err(none_of("IPv6"))?;
        }
        let v4 = self.v4.lease(id, now).map_err(none_of("IPv4"))?;
        let v6 = if self.dual_stack { Some(self.v6.lease(id, now).map_err(none_of("IPv6"))?) } else { None };
        Ok(Addresses { v4, v6 })
    }

    /// Takes over the leases of an earlier run; see [`LeaseBook::restore`]. A pod of before the pool had IPv6 keeps
    /// what it has.
    pub fn restore(&mut self, id: &AttachmentId, addresses: Addresses) -> Result<(), LeasesRestoreError> {
        if let Some(v6) = addresses.v6 {
            self.v6.would_restore(id, v6)?;
        }
        self.v4.restore(id, addresses.v4)?;
        if let Some(v6) = addresses.v6 {
            self.v6.restore(id, v6)?;
        }
        Ok(())
    }

    /// Takes the attachment's addresses back; `None` if it has none.
    pub fn release(&mut self, id: &AttachmentId, now: Duration) -> Option<Addresses> {
        let v6 = self.v6.release(id, now);
        self.v4.release(id, now).map(|v4| Addresses { v4, v6 })
    }

    pub fn lease_of(&self, id: &AttachmentId) -> Option<Addresses> {
        self.v4.lease_of(id).map(|v4| Addresses { v4, v6: self.v6.lease_of(id) })
    }

    /// Looks at every cooling address: for status and metrics, not for each call.
    pub fn counts(&self, now: Duration) -> FamilyCounts {
        let v6 = self.v6.counts(now);
        FamilyCounts { v4: self.v4.counts(now), v6: (v6.total > 0).then_some(v6) }
    }
}
