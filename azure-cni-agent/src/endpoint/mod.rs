//! What is built for a pod: the names and addresses that operators of the transparent mode know, and the steps that make
//! the pod's and the host's side.

mod build;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use azure_cni_api::{labels, names};
pub use build::{Endpoint, EndpointError, await_carrier, build_host_side, build_pod_side, index_of};

use crate::net::Link;

/// The pod's default gateway: no host has it, a permanent neighbour entry stands for it.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// Likewise of IPv6. On the wire the platform's router has this address.
pub const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0x1234, 0x5678, 0x9abc);

/// Of the platform's IPv6 router, as seen from the uplink.
pub const PLATFORM_GATEWAY_MAC: [u8; 6] = [0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc];

/// RFC 8200 section 5: every link that carries IPv6 carries packets of this many bytes.
pub const IPV6_MIN_MTU: u32 = 1280;

/// The gateway of a pod that has this address.
pub fn gateway_for(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => GATEWAY.into(),
        IpAddr::V6(_) => GATEWAY6.into(),
    }
}

/// Whether an interface is a host veth that we made.
pub fn is_labelled(link: &Link) -> bool {
    names::is_host_interface(&link.name) && link.is_veth && link.group == labels::GROUP
}
