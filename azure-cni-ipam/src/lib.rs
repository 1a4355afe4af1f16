//! Pod addresses: the listings of the sources, the pool of addresses that pods may get, and the leases.
//!
//! Pure: texts, addresses and times are arguments. This code touches no file, socket or clock.
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
mod oddity;
mod pool;
mod reserved;
mod schedule;

pub use addresses::Addresses;
pub use change::Change;
pub use lease::{Choice, Counts, LeaseBook, LeaseError, RestoreError};
pub use leases::{FamilyCounts, Leases, LeasesRestoreError, NoAddress};
pub use nic::{Listing, Nic, NicMac, Subnet};
pub use oddity::Oddities;
pub use pool::{NodeAddresses, Pool, PoolError, PoolSubnet, Withheld};
pub use reserved::Reserved;
pub use schedule::{PollOutcome, Schedule};
