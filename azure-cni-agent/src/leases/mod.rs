//! The addresses of pods: which there are, who has which, and azure-cns, which gives them where it runs.
//!
//! The rule: this is below the agent. A lease tells its caller what it learned; the caller publishes it.

mod address_leases;
mod deliver;
mod error;

pub mod cns;

pub use address_leases::{AddressLeases, Leased};
pub use deliver::deliver_releases;
pub use error::NotLeased;
