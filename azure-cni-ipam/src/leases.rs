//! The leases of both families: one book for IPv4, one for IPv6.
//!
//! The rule: a pod gets both addresses or none. Both books are checked before either is changed, so that a pod that cannot
//! have the second address does not hold the first, nor make it cool down unused.

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use azure_cni_api::AddressRequest;
use azure_cni_api::cni::AttachmentId;

use crate::addresses::Addresses;
use crate::lease::{Choice, Counts, LeaseBook, LeaseError, RestoreError};

/// Why a pod got no addresses, and which family had none. The source says whether a retry helps.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no {family} address for the pod: {source}")]
pub struct NoAddress {
    pub family: &'static str,
    pub source: LeaseError<IpAddr>,
}

impl NoAddress {
    fn v4(source: LeaseError<Ipv4Addr>) -> Self {
        Self { family: "IPv4", source: source.map(IpAddr::V4) }
    }

    fn v6(source: LeaseError<Ipv6Addr>) -> Self {
        Self { family: "IPv6", source: source.map(IpAddr::V6) }
    }
}

/// Why leases of an earlier run were not restored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeasesRestoreError {
    #[error(transparent)]
    V4(#[from] RestoreError<Ipv4Addr>),
    #[error(transparent)]
    V6(#[from] RestoreError<Ipv6Addr>),
}

/// The number of addresses in each state, by family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FamilyCounts {
    pub v4: Counts,
    /// `None`: the pool has no IPv6 address, and no attachment holds one.
    pub v6: Option<Counts>,
}

#[derive(Debug, Clone)]
pub struct Leases {
    v4: LeaseBook<Ipv4Addr>,
    v6: LeaseBook<Ipv6Addr>,
    /// The pool has IPv6 addresses, so new pods get one too.
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

    /// Replaces the pool's addresses; see [`LeaseBook::set_pool`].
    pub fn set_pool(&mut self, addresses: impl IntoIterator<Item = IpAddr>) {
        self.set_leasable(addresses, false);
    }

    /// Replaces the addresses that may be leased. `dual_stack`: pods get an IPv6 address, or none at all, also while the pool's
    /// are all withheld.
    pub fn set_leasable(&mut self, addresses: impl IntoIterator<Item = IpAddr>, dual_stack: bool) {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for address in addresses {
            match address {
                IpAddr::V4(address) => v4.push(address),
                IpAddr::V6(address) => v6.push(address),
            }
        }
        self.dual_stack = dual_stack || !v6.is_empty();
        self.v4.set_pool(v4);
        self.v6.set_pool(v6);
    }

    /// Replaces the set of addresses that have a public address of their own, in the pool or not.
    pub fn set_public(&mut self, public: &BTreeSet<IpAddr>) {
        self.v4.set_public(public.iter().filter_map(|address| match address {
            IpAddr::V4(address) => Some(*address),
            IpAddr::V6(_) => None,
        }));
    }

    /// Leases an address of each family that the pool has, as requested. An attachment that has addresses keeps them, or
    /// gets an error if it requests others. A request for one family leaves the other to the pool.
    pub fn lease(
        &mut self,
        id: &AttachmentId,
        address_request: &AddressRequest,
        now: Duration,
    ) -> Result<Addresses, NoAddress> {
        let choices = Choices::of(address_request)?;
        if let (Choice::This(address), true) = (choices.v4, address_request.public)
            && !self.v4.is_public(address)
        {
            return Err(NoAddress::v4(LeaseError::RequestedHasNoPublic { address }));
        }
        if let Some(held) = self.lease_of(id) {
            return self.confirm_held(id, held, choices, now);
        }
        let with_v6 = self.dual_stack || choices.v6 != Choice::Any;
        if with_v6 {
            self.v6.would_lease(id, choices.v6, now).map_err(NoAddress::v6)?;
        }
        let v4 = self.v4.lease(id, choices.v4, now).map_err(NoAddress::v4)?;
        let v6 = if with_v6 { Some(self.v6.lease(id, choices.v6, now).map_err(NoAddress::v6)?) } else { None };
        Ok(Addresses { v4, v6 })
    }

    /// Whether the addresses that an attachment holds are what it requests now.
    fn confirm_held(
        &self,
        id: &AttachmentId,
        held: Addresses,
        requested: Choices,
        now: Duration,
    ) -> Result<Addresses, NoAddress> {
        self.v4.would_lease(id, requested.v4, now).map_err(NoAddress::v4)?;
        match (held.v6, requested.v6) {
            (None, Choice::This(requested)) => Err(NoAddress::v6(LeaseError::HoldsNone { requested })),
            (None, _) => Ok(held),
            (Some(_), choice) => self.v6.would_lease(id, choice, now).map(|_| held).map_err(NoAddress::v6),
        }
    }

    /// Restores the leases of an earlier run; see [`LeaseBook::restore`]. A pod that was added before the pool had IPv6
    /// keeps its IPv4 address alone.
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

    /// See [`LeaseBook::restore_released`].
    pub fn restore_released(&mut self, address: IpAddr, at: Duration) {
        match address {
            IpAddr::V4(address) => self.v4.restore_released(address, at),
            IpAddr::V6(address) => self.v6.restore_released(address, at),
        }
    }

    /// Releases the attachment's addresses; `None` if it has none.
    pub fn release(&mut self, id: &AttachmentId, now: Duration) -> Option<Addresses> {
        let v6 = self.v6.release(id, now);
        self.v4.release(id, now).map(|v4| Addresses { v4, v6 })
    }

    pub fn lease_of(&self, id: &AttachmentId) -> Option<Addresses> {
        self.v4.lease_of(id).map(|v4| Addresses { v4, v6: self.v6.lease_of(id) })
    }

    /// Walks over all cooling addresses: for status and metrics, not for each call.
    pub fn counts(&self, now: Duration) -> FamilyCounts {
        let v6 = self.v6.counts(now);
        FamilyCounts { v4: self.v4.counts(now), v6: (v6.total > 0).then_some(v6) }
    }

    pub fn holder(&self, address: IpAddr) -> Option<&AttachmentId> {
        match address {
            IpAddr::V4(address) => self.v4.holder(address),
            IpAddr::V6(address) => self.v6.holder(address),
        }
    }

    /// All leases.
    pub fn all(&self) -> impl Iterator<Item = (&AttachmentId, Addresses)> {
        self.v4.all().map(|(id, v4)| (id, Addresses { v4, v6: self.v6.lease_of(id) }))
    }
}

/// A request, by family. The platform's public addresses are IPv4 addresses.
#[derive(Debug, Clone, Copy)]
struct Choices {
    v4: Choice<Ipv4Addr>,
    v6: Choice<Ipv6Addr>,
}

impl Choices {
    fn of(address_request: &AddressRequest) -> Result<Self, NoAddress> {
        let v4 = address_request.addresses.iter().filter_map(|address| match address {
            IpAddr::V4(address) => Some(*address),
            IpAddr::V6(_) => None,
        });
        let v6 = address_request.addresses.iter().filter_map(|address| match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(*address),
        });
        let otherwise = if address_request.public { Choice::Public } else { Choice::Any };
        Ok(Self {
            v4: at_most_one(v4).map_err(NoAddress::v4)?.map_or(otherwise, Choice::This),
            v6: at_most_one(v6).map_err(NoAddress::v6)?.map_or(Choice::Any, Choice::This),
        })
    }
}

/// The one requested address of a family. It may be given twice, because the runtime's `ips` and a key of the network may
/// agree.
fn at_most_one<A: Copy + PartialEq + std::fmt::Debug + std::fmt::Display>(
    mut named: impl Iterator<Item = A>,
) -> Result<Option<A>, LeaseError<A>> {
    let Some(first) = named.next() else { return Ok(None) };
    match named.find(|other| *other != first) {
        Some(second) => Err(LeaseError::TwoOfAFamily { first, second }),
        None => Ok(Some(first)),
    }
}
