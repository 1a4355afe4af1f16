//! The interface between the plugin, the operator's command and the agent: the CNI protocol, the agent's socket, the spool,
//! and the names that follow from an attachment.
//!
//! The rule: nothing here knows how the agent works. There is no async runtime, no eBPF and no netlink, so that the two
//! small programs start fast. Modules that touch files or sockets say so.

pub mod cni;

pub mod socket;
pub mod spool;

pub mod labels;
pub mod names;

mod address_request;
mod bandwidth;
pub mod boot_time;
pub mod durable;
pub mod excerpt;
pub mod mac;

pub use address_request::AddressRequest;
pub use bandwidth::{Bandwidth, RateLimit};
pub use mac::MacAddress;
