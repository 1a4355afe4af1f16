//! Pod addresses: what a source says there is, which of it may be handed out, and who holds what.
//!
//! Pure: texts, addresses and the time come in as arguments; no file, socket or clock is touched here.
#![forbid(unsafe_code)]

pub mod cns;
pub mod imds;
pub mod listing;
pub mod wireserver;

mod addresses;
mod change;
mod lease;
mod leases;
mod nic;
mod pool;
mod schedule;

pub use addresses::Addresses;
pub use change::Change;
pub use lease::{Choice, Counts, LeaseBook, LeaseError, RestoreError};
pub use leases::{FamilyCounts, Leases, LeasesRestoreError, NoAddress};
pub use nic::{Nic, NicMac, Subnet};
pub use pool::{Pool, PoolError, PoolSubnet, Reserved, Withheld};
pub use schedule::{PollOutcome, Schedule};
