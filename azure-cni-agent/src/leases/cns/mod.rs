//! azure-cns gives each attachment its addresses, and takes them back.
//!
//! The rule: the claim is on the disk before azure-cns is asked for an address, and stays there until azure-cns has taken
//! the release. A claim without a lease is a pending release. So no address stays claimed for no pod, whatever happens,
//! `kill -9` at any point included, and no DEL waits for the server.

mod assign;
mod claims;
mod client;
mod error;

pub use assign::{Cns, ensure_requested};
pub use claims::Claims;
pub use client::CnsClient;
pub use error::CnsError;
