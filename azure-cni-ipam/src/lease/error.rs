//! Why an attachment got no address, or not the one of an earlier run.

use std::fmt::{Debug, Display};
use std::time::Duration;

use azure_cni_api::cni::AttachmentId;

/// Why an attachment got no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError<A: Debug + Display> {
    /// The source lists no address that a pod may get. A retry helps once the source does.
    #[error("the pool has no address for pods")]
    Empty,
    /// A retry helps once a pod ends, or the pool grows.
    #[error("all {leased} addresses of the pool are in use")]
    Exhausted { leased: usize },
    /// Free addresses are left, and each was in use too short a time ago. A retry helps after `retry_in`.
    #[error("all {cooling} free addresses that will do were in use a moment ago; try again in {} s", whole_secs(*.retry_in))]
    Cooling { cooling: usize, retry_in: Duration },
    /// A retry helps once one of the pool's addresses is given a public one.
    #[error("no address of the pool has a public address of its own, and the pod asks for one")]
    NoPublic,
    /// A retry helps once a pod that has one ends.
    #[error("every address with a public one of its own is in use, and the pod asks for one")]
    PublicExhausted,
    /// A retry helps only once the source lists the address.
    #[error("address {address} was asked for, and the pool does not have it")]
    NotInPool { address: A },
    /// A retry helps once the holder ends.
    #[error("address {address} was asked for, and {holder} holds it")]
    Held { address: A, holder: AttachmentId },
    /// A retry helps after `retry_in`.
    #[error("address {address} was asked for, and was in use a moment ago; try again in {} s", whole_secs(*.retry_in))]
    AddressCooling { address: A, retry_in: Duration },
    /// A retry helps only once the address is given a public one.
    #[error("address {address} was asked for, and one with a public address of its own, which it has not")]
    AskedHasNoPublic { address: A },
    /// A retry never helps: the attachment has to be deleted before it can have another address.
    #[error("the attachment holds {held}, and is now asked to have {asked}")]
    HoldsAnother { held: A, asked: A },
    /// Likewise.
    #[error(
        "the attachment holds {held}, which has no public address of its own, and is now asked to have one that has"
    )]
    HoldsNoPublic { held: A },
    /// Likewise.
    #[error("the attachment was made without an address of this family, and is now asked to have {asked}")]
    HoldsNone { asked: A },
    /// A retry never helps.
    #[error("{first} and {second} were asked for, and a pod has one address of a family")]
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
            | Self::AskedHasNoPublic { .. }
            | Self::HoldsAnother { .. }
            | Self::HoldsNoPublic { .. }
            | Self::HoldsNone { .. }
            | Self::TwoOfAFamily { .. } => false,
        }
    }

    /// The same of addresses in another form.
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
            Self::AskedHasNoPublic { address } => LeaseError::AskedHasNoPublic { address: form(address) },
            Self::HoldsAnother { held, asked } => LeaseError::HoldsAnother { held: form(held), asked: form(asked) },
            Self::HoldsNoPublic { held } => LeaseError::HoldsNoPublic { held: form(held) },
            Self::HoldsNone { asked } => LeaseError::HoldsNone { asked: form(asked) },
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

/// Rounded up: who retries after that many seconds does not come too early.
fn whole_secs(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}
