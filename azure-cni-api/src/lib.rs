//! What the plugin, the operator's command and the agent say to each other, and the names that all of them derive from it.
//!
//! The rule: nothing here knows how the agent works. There is no async runtime, no eBPF and no netlink, so that the two
//! small programs start fast; what touches a file or a socket says so in its module.

pub mod cni;

pub mod socket;
pub mod spool;

pub mod labels;
pub mod names;

mod address_request;
pub mod boot_time;
pub mod durable;
pub mod mac;

pub use address_request::AddressRequest;
pub use mac::MacAddress;
