//! What is built for a pod: the names and addresses that operators of the transparent mode know, and the steps that make
//! the pod's and the host's side.

mod build;
mod names;

pub use build::{Endpoint, EndpointError, await_carrier, build_host_side, build_pod_side};
pub use names::{host_interface, pod_mac};

use std::net::Ipv4Addr;

/// The pod's default gateway: no host has it, a permanent neighbour entry stands for it.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// Of every host veth. Constant, so that nothing on the node rewrites it, and so that pods need not learn it.
pub const HOST_MAC: [u8; 6] = [0xaa; 6];
