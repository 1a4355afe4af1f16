//! Spooled requests: DEL and GC calls that found no agent. The plugin writes them to a folder. The agent executes them
//! before it serves, and retries each until it succeeds.
//!
//! The rule of order: a request is older than every ADD that is made after it was written. ADD first executes the requests
//! that wait for its own attachment. A request that an ADD has overtaken is dropped.

mod folder;
mod request;

pub use folder::{Folder, MAX_REQUESTS, SpoolEntry, SpoolError};
pub use request::{SpooledCall, SpooledRequest};

/// The default folder of both plugin and agent.
pub const DEFAULT_DIR: &str = "/var/lib/azure-cni/spool";
