//! Requests to free something that came while no agent was there: the plugin writes them down, the agent carries them out
//! before it serves, and again and again until each has succeeded.
//!
//! The rule of order: a request is older than every ADD that is made after it was written. ADD carries out what waits for
//! its own attachment first; a request that an ADD has overtaken is dropped.

mod folder;
mod request;

pub use folder::{Folder, Found, MAX_REQUESTS, SpoolError};
pub use request::{SpooledCall, SpooledRequest};

/// Where the plugin writes and the agent reads, unless both are told otherwise.
pub const DEFAULT_DIR: &str = "/var/lib/azure-cni/spool";
