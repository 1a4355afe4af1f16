//! What must survive a restart: one record per attachment, in a database below the agent's state directory.
//!
//! A change is on the disk when the call returns. Calls block on the disk: from async code they go through
//! `spawn_blocking`. One process has the store open at a time.
#![forbid(unsafe_code)]

mod database;
mod error;
mod record;
#[cfg(test)]
pub(crate) mod sample;
mod store;

pub use error::StoreError;
pub use record::AttachmentRecord;
pub use store::{BootStamp, FILE_NAME, SetAside, Store};
