//! What must survive a restart: one record per attachment, each in a file of its own below the agent's state directory.
//!
//! A change is on the disk when the call returns. Calls that change something block on the disk: from async code they go
//! through `spawn_blocking`. What is read is in memory. One process has the store open at a time.
#![forbid(unsafe_code)]

mod error;
mod file;
mod open;
mod record;
mod released;
#[cfg(test)]
pub(crate) mod sample;
mod store;

pub use error::StoreError;
pub use open::SetAside;
pub use record::AttachmentRecord;
pub use store::{DIR_NAME, Store};
