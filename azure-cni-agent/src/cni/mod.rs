//! The CNI protocol as types: what a runtime may say, what we answer. Pure: no file, socket or clock is touched here.
pub mod attachment;

pub use attachment::{AttachmentId, ContainerId, InterfaceName, NetworkName};
