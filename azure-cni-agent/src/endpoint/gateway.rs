//! The gateways of pods, and the constants of IPv6 that come with them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The pod's default gateway. No host has the address; a permanent neighbour entry stands for it.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// The same for IPv6. On the wire the platform's router has this address.
pub const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0x1234, 0x5678, 0x9abc);

/// The platform's IPv6 router, as seen from the uplink.
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

#[cfg(test)]
mod tests {
    use azure_cni_common::family::{Address, Ipv6};

    use super::*;

    #[test]
    fn the_programs_know_the_gateway_of_ipv6_as_the_prober() {
        assert!(Ipv6::from(GATEWAY6).is_prober_on_link());
    }
}
