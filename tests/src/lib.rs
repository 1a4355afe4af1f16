//! A virtual network made of network namespaces, on which the real agent and the real plugin serve real traffic.
//!
//! The rule: everything lives in a private mount namespace and in processes that die with this one, so nothing is left on
//! the machine, even after `kill -9`. Nothing here touches the machine's own interfaces, routes or sysctls. Calls block, so
//! that a test reads from top to bottom:
//!
//! ```no_run
//! use azure_cni_tests::{Error, Fabric, probe};
//!
//! fn pods_of_two_vms_reach_each_other() -> Result<(), Error> {
//!     let net = Fabric::builder().vms(2).start()?;
//!     let a = net.vm(0).add_pod("a")?;
//!     let b = net.vm(1).add_pod("b")?;
//!     let echo = probe::EchoServer::start(&b)?;
//!     assert_eq!(probe::tcp(&a, echo.address())?.source_seen.ip(), a.address());
//!     Ok(())
//! }
//! # use azure_cni_tests::Station;
//! ```

// What a test starts with.
mod builder;
mod cni;
mod cni_error;
mod fabric;
mod leftovers;
mod operator;
mod pod;
mod station;
mod traces;
mod vm;

// The platform's services.
pub mod platform;

// Traffic.
mod baseline;
pub mod probe;

// The machinery below.
mod agent_config;
mod binaries;
mod capability;
mod foreign_program;
mod ip;
mod kube_proxy;
mod maps;
mod namespace;
mod nft;
mod offload;
mod options;
mod plan;
mod process;
mod router;
mod sandbox;

mod error;

pub use baseline::Baseline;
pub use builder::FabricBuilder;
pub use capability::require_capable;
pub use cni::{CniCall, CniOutput};
pub use cni_error::CniError;
pub use error::{Error, Result};
pub use fabric::Fabric;
pub use foreign_program::FOREIGN_PROGRAM;
pub use ip::{configure, query, traffic_control};
pub use kube_proxy::{ProxyMode, Service, kube_proxy, kube_proxy_by, restore_rules};
pub use leftovers::Leftovers;
pub use namespace::Namespace;
pub use nft::{Forwarded, nft};
pub use offload::{Offloads, offloads, set_checksum_offload};
pub use plan::{GATEWAY6, HOST_ADDRESS, PEERED_PREFIX, PEERED_PREFIX6, VNET_PREFIX, VNET_PREFIX6};
pub use pod::Pod;
pub use sandbox::Sandbox;
pub use station::{Host, IpVersion, Station};
pub use vm::Vm;
