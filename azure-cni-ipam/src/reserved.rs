//! Addresses that no pod gets, whatever source lists or gives them.
//!
//! The rule: [`always`] knows the ranges in which no host of a virtual network can be; what follows from a pool's own subnets, and
//! from what the node uses, is in [`Pool::withholds`](crate::Pool::withholds), which asks this first.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// The platform's wire server, DNS server and prober.
const WIRE_SERVER: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);

/// Why an address is reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Reserved {
    Primary,
    Network,
    /// RFC 4291 section 2.6.1: the network address of an IPv6 subnet means any of its routers.
    RouterAnycast,
    Gateway,
    Broadcast,
    /// The source lists it for another NIC too, and the platform routes it to one of them.
    OtherNic,
    /// An interface of the host has it: the host's packets to it would not leave the host.
    HeldByHost,
    /// Rules of the node translate what is sent to it: a pod would not get what machines and pods send to a service there.
    OfService,
    Platform,
    /// RFC 791 section 3.2, RFC 4291 section 2.5.2.
    ThisHost,
    Loopback,
    LinkLocal,
    Multicast,
    /// RFC 1112 section 4, and the limited broadcast address in it (RFC 919 section 7).
    FutureUse,
    /// RFC 4291 section 2.5.5.
    EmbedsIpv4,
}

impl Reserved {
    /// Whether it ceases without a change of the pool: what the host uses an address for.
    pub fn is_by_node(self) -> bool {
        matches!(self, Self::HeldByHost | Self::OfService)
    }
}

impl fmt::Display for Reserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Primary => "the VM's own address",
            Self::Network => "the subnet's network address",
            Self::RouterAnycast => "the subnet-router anycast address",
            Self::Gateway => "the subnet's gateway",
            Self::Broadcast => "the subnet's broadcast address",
            Self::OtherNic => "listed for another NIC too",
            Self::HeldByHost => "an interface of the host has it",
            Self::OfService => "rules of the node translate what is sent to it, as for a service",
            Self::Platform => "an address of the platform",
            Self::ThisHost => "an address of \"this host\"",
            Self::Loopback => "a loopback address",
            Self::LinkLocal => "a link-local address",
            Self::Multicast => "a multicast address",
            Self::FutureUse => "an address reserved for future use",
            Self::EmbedsIpv4 => "an IPv6 address that embeds an IPv4 address",
        })
    }
}

/// Why no host of a virtual network can have this address, if none can.
pub fn always(address: IpAddr) -> Option<Reserved> {
    match address {
        IpAddr::V4(address) => always4(address),
        IpAddr::V6(address) => always6(address),
    }
}

fn always4(address: Ipv4Addr) -> Option<Reserved> {
    match address.octets() {
        _ if address == WIRE_SERVER => Some(Reserved::Platform),
        [0, ..] => Some(Reserved::ThisHost),
        [127, ..] => Some(Reserved::Loopback),
        [169, 254, ..] => Some(Reserved::LinkLocal),
        [224..=239, ..] => Some(Reserved::Multicast),
        [240..=255, ..] => Some(Reserved::FutureUse),
        _ => None,
    }
}

fn always6(address: Ipv6Addr) -> Option<Reserved> {
    match address.segments() {
        _ if address.is_unspecified() => Some(Reserved::ThisHost),
        _ if address.is_loopback() => Some(Reserved::Loopback),
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] => Some(Reserved::EmbedsIpv4),
        [0xfe80..=0xfebf, ..] => Some(Reserved::LinkLocal),
        [0xff00..=0xffff, ..] => Some(Reserved::Multicast),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_edges_of_each_range_are_reserved_and_their_neighbours_are_not() {
        for (first, last, reason) in [
            ("0.0.0.0", "0.255.255.255", Reserved::ThisHost),
            ("127.0.0.0", "127.255.255.255", Reserved::Loopback),
            ("169.254.0.0", "169.254.255.255", Reserved::LinkLocal),
            ("169.254.169.254", "169.254.1.1", Reserved::LinkLocal),
            ("168.63.129.16", "168.63.129.16", Reserved::Platform),
            ("224.0.0.0", "239.255.255.255", Reserved::Multicast),
            ("240.0.0.0", "255.255.255.255", Reserved::FutureUse),
            ("::", "::", Reserved::ThisHost),
            ("::1", "::1", Reserved::Loopback),
            ("::2", "::255.255.255.255", Reserved::EmbedsIpv4),
            ("::ffff:0.0.0.0", "::ffff:255.255.255.255", Reserved::EmbedsIpv4),
            ("fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Reserved::LinkLocal),
            ("fe80::1234:5678:9abc", "fe80::1", Reserved::LinkLocal),
            ("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Reserved::Multicast),
        ] {
            for address in [first, last] {
                assert_eq!(always(address.parse().unwrap()), Some(reason), "{address}");
            }
        }
        for address in [
            "1.0.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "168.63.129.15",
            "168.63.129.17",
            "169.253.255.255",
            "169.255.0.0",
            "223.255.255.255",
            "10.0.0.4",
            "100.64.0.1",
            "::1:0:0:1",
            "2001:db8::1",
            "fd00::1",
            "fe7f:ffff::1",
            "fec0::1",
            "feff::1",
        ] {
            assert_eq!(always(address.parse().unwrap()), None, "{address}");
        }
    }
}
