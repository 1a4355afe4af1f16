//! Why an attachment got no address, or not the one of an earlier run.

use std::fmt::{Debug, Display};
use std::time::Duration;

use azure_cni_api::cni::AttachmentId;

/// Why an attachment got no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError<A: Debug + Display> {
    /// The source lists no address for pods. A retry helps once it does.
    #[error("the pool has no address for pods")]
    Empty,
    /// A retry helps once a pod ends, or the pool grows.
    #[error("all {leased} addresses of the pool are in use")]
    Exhausted { leased: usize },
    /// All free addresses of this kind still cool down. A retry helps after `retry_in`.
    #[error("all {cooling} suitable free addresses were in use a moment ago; try again in {} s", whole_secs(*.retry_in))]
    Cooling { cooling: usize, retry_in: Duration },
    /// A retry helps once one of the pool's addresses is given a public one.
    #[error("the pod requests an address with a public one, and no address of the pool has a public address")]
    NoPublic,
    /// A retry helps once a pod with such an address ends.
    #[error("the pod requests an address with a public one, and all of these are in use")]
    PublicExhausted,
    /// A retry helps only once the source lists the address.
    #[error("requested address {address} is not in the pool")]
    NotInPool { address: A },
    /// A retry helps once the holder ends.
    #[error("requested address {address} is held by {holder}")]
    Held { address: A, holder: AttachmentId },
    /// A retry helps after `retry_in`.
    #[error("requested address {address} was in use a moment ago; try again in {} s", whole_secs(*.retry_in))]
    AddressCooling { address: A, retry_in: Duration },
    /// A retry helps only once the address is given a public one.
    #[error("requested address {address} has no public address, which the pod requests too")]
    RequestedHasNoPublic { address: A },
    /// A retry never helps: the attachment has to be deleted before it can have another address.
    #[error("the attachment holds {held}, and now requests {requested}")]
    HoldsAnother { held: A, requested: A },
    /// A retry never helps, as with `HoldsAnother`.
    #[error("the attachment holds {held}, which has no public address, and now requests one that has")]
    HoldsNoPublic { held: A },
    /// A retry never helps, as with `HoldsAnother`.
    #[error("the attachment was made without an address of this family, and now requests {requested}")]
    HoldsNone { requested: A },
    /// A retry never helps.
    #[error("{first} and {second} were requested, and a pod has one address of a family")]
    TwoOfAFamily { first: A, second: A },
}

impl<A: Debug + Display> LeaseError<A> {
    /// Whether the same call may succeed later, with nothing changed but the pool and its other holders.
    pub fn retry_helps(&self) -> bool {
        match self {
            Self::Empty
            | Self::Exhausted { .. }
            | Self::Cooling { .. }
            | Self::NoPublic
            | Self::PublicExhausted
            | Self::Held { .. }
            | Self::AddressCooling { .. } => true,
            Self::NotInPool { .. }
            | Self::RequestedHasNoPublic { .. }
            | Self::HoldsAnother { .. }
            | Self::HoldsNoPublic { .. }
            | Self::HoldsNone { .. }
            | Self::TwoOfAFamily { .. } => false,
        }
    }

    /// Converts the addresses.
    pub fn map<B: Debug + Display>(self, form: impl Fn(A) -> B) -> LeaseError<B> {
        match self {
            Self::Empty => LeaseError::Empty,
            Self::Exhausted { leased } => LeaseError::Exhausted { leased },
            Self::Cooling { cooling, retry_in } => LeaseError::Cooling { cooling, retry_in },
            Self::NoPublic => LeaseError::NoPublic,
            Self::PublicExhausted => LeaseError::PublicExhausted,
            Self::NotInPool { address } => LeaseError::NotInPool { address: form(address) },
            Self::Held { address, holder } => LeaseError::Held { address: form(address), holder },
            Self::AddressCooling { address, retry_in } => {
                LeaseError::AddressCooling { address: form(address), retry_in }
            }
            Self::RequestedHasNoPublic { address } => LeaseError::RequestedHasNoPublic { address: form(address) },
            Self::HoldsAnother { held, requested } => {
                LeaseError::HoldsAnother { held: form(held), requested: form(requested) }
            }
            Self::HoldsNoPublic { held } => LeaseError::HoldsNoPublic { held: form(held) },
            Self::HoldsNone { requested } => LeaseError::HoldsNone { requested: form(requested) },
            Self::TwoOfAFamily { first, second } => {
                LeaseError::TwoOfAFamily { first: form(first), second: form(second) }
            }
        }
    }
}

/// Why a lease of an earlier run was not taken over. A retry never helps: two records contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError<A: Debug + Display> {
    #[error("address {address} already belongs to {holder}")]
    AddressHeld { address: A, holder: AttachmentId },
    #[error("{id} already holds address {address}")]
    OtherAddress { id: AttachmentId, address: A },
}

/// Rounds up, so that a retry after that many seconds is not too early.
fn whole_secs(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}
