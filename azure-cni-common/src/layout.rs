//! Keys and values of the maps that are not flows: endpoints, routes, translations.
//!
//! All are `repr(C)` with their padding spelt out; the assertions hold the layout that is pinned under [`crate::ABI`].

use crate::family::{Address, Be16, Ipv4, Ipv6, TCP, UDP};
use crate::flow::Tuple;

/// What is known of a pod by its address. Maps `ENDPOINTS4` and `ENDPOINTS6`: address → endpoint.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Index of the host veth, in the node's network namespace.
    pub ifindex: u32,
    pub flags: EndpointFlags,
}

impl Endpoint {
    pub const fn at(ifindex: u32) -> Self {
        Self { ifindex, flags: EndpointFlags::NONE }
    }
}

/// What is special about a pod, as a set of bits.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndpointFlags(pub u32);

impl EndpointFlags {
    pub const NONE: Self = Self(0);
    /// Also the Internet sees the pod's own address: it has a public one, or its network opts out of source NAT.
    pub const KEEP_SOURCE: Self = Self(1);

    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// What is reached at a prefix. Maps `ROUTES4` and `ROUTES6`: longest prefix match → class.
///
/// A destination that no prefix covers is the Internet.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteClass(pub u32);

impl RouteClass {
    /// The VNet, peered networks, on-premises: reached with the pod's own address, on the short way.
    pub const VNET: Self = Self(1);
    /// The node's own addresses, node-local services, cluster service prefixes: the host's stack decides.
    pub const HOST: Self = Self(2);
    /// Services of the platform that answer the NIC's primary address only; never a service of the cluster.
    pub const PLATFORM: Self = Self(3);
}

/// The wire side of a translation: what an answer looks like when it arrives. Maps `NAT4` and `NAT6`, and
/// `NATOPEN4` and `NATOPEN6` until the other side has answered.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NatKey<A> {
    pub remote: A,
    /// The node's address that the answer is sent to.
    pub node: A,
    pub remote_port: Be16,
    pub node_port: Be16,
    pub protocol: u32,
}

impl<A: Address> NatKey<A> {
    pub fn protocol(&self) -> u8 {
        self.protocol as u8
    }

    /// The key that holds `node_port` for the destination of a packet that leaves.
    pub fn for_outgoing(tuple: &Tuple<A>, node: A, node_port: Be16) -> Self {
        Self {
            remote: tuple.destination,
            node,
            remote_port: tuple.destination_port,
            node_port,
            protocol: u32::from(tuple.protocol),
        }
    }

    /// The key that a packet from the wire asks for.
    pub fn for_incoming(tuple: &Tuple<A>) -> Self {
        Self {
            remote: tuple.source,
            node: tuple.destination,
            remote_port: tuple.source_port,
            node_port: tuple.destination_port,
            protocol: u32::from(tuple.protocol),
        }
    }
}

/// Who holds a port of the node towards one destination: a pod, or (with the node's own address) a socket of the host.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatHolder<A> {
    pub address: A,
    pub port: Be16,
    pub claimed: ClaimTime,
}

/// When a port was claimed, in eighths of a second, wrapping after two hours: a claim is made a moment before its flow
/// is remembered, and in that moment nobody else may take the port for one whose flow is over.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimTime(pub u16);

impl ClaimTime {
    pub const fn at(now_ns: u64) -> Self {
        Self((now_ns >> 27) as u16)
    }

    fn is_a_moment_ago(self, now_ns: u64) -> bool {
        // Up to a quarter of a second; also a clock of another CPU that is a tick ahead.
        Self::at(now_ns).0.wrapping_sub(self.0).wrapping_add(1) <= 2
    }
}

impl<A: Address> NatHolder<A> {
    pub fn new(address: A, port: Be16, now_ns: u64) -> Self {
        Self { address, port, claimed: ClaimTime::at(now_ns) }
    }

    /// Whether both are of one flow, whenever it claimed the port.
    pub fn is_same(&self, other: &Self) -> bool {
        self.address == other.address && self.port == other.port
    }

    /// Whether the flow may not be remembered yet.
    pub fn is_claiming(&self, now_ns: u64) -> bool {
        self.claimed.is_a_moment_ago(now_ns)
    }

    /// The holder's own view of the flow, in the direction in which it was opened.
    pub fn opening_tuple(&self, key: &NatKey<A>) -> Tuple<A> {
        Tuple {
            source: self.address,
            destination: key.remote,
            source_port: self.port,
            destination_port: key.remote_port,
            protocol: key.protocol(),
        }
    }
}

/// What the fragments of one packet have in common (RFC 791 section 3.2, RFC 8200 section 4.5). Maps `FRAGMENTS4`, 6.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentKey<A> {
    pub source: A,
    pub destination: A,
    /// As it stands in the packet.
    pub identification: u32,
    pub protocol: u32,
}

/// What only the first fragment tells.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentPorts {
    /// CLOCK_MONOTONIC, nanoseconds.
    pub expires_ns: u64,
    pub source_port: Be16,
    pub destination_port: Be16,
    pub pad: u32,
}

/// A flow that was refused, for the agent to tell. Ring buffer `EVENTS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusedFlow {
    /// IPv4: the first four octets.
    pub source: [u32; 4],
    pub destination: [u32; 4],
    pub source_port: Be16,
    pub destination_port: Be16,
    /// [`crate::drop_reason::DropReason::number`].
    pub reason: u16,
    pub protocol: u8,
    /// 4 or 6.
    pub family: u8,
}

/// Words of the bitmap of ports that the host's own sockets hold, map `HOST_PORTS`: TCP first, then UDP.
pub const HOST_PORT_WORDS: u32 = 2 * 65_536 / 64;

/// Word and bit of a port; none for protocols whose sockets hold no ports.
pub fn host_port_bit(protocol: u8, port: Be16) -> Option<(u32, u64)> {
    let first = match protocol {
        TCP => 0,
        UDP => HOST_PORT_WORDS / 2,
        _ => return None,
    };
    let port = u32::from(port.to_host());
    Some((first + port / 64, 1 << (port % 64)))
}

const _: () = assert!(size_of::<FragmentKey<Ipv4>>() == 16 && size_of::<FragmentKey<Ipv6>>() == 40);
const _: () = assert!(size_of::<FragmentPorts>() == 16 && size_of::<RefusedFlow>() == 40);
const _: () = assert!(size_of::<Endpoint>() == 8);
const _: () = assert!(size_of::<NatKey<Ipv4>>() == 16 && size_of::<NatKey<Ipv6>>() == 40);
const _: () = assert!(size_of::<NatHolder<Ipv4>>() == 8 && size_of::<NatHolder<Ipv6>>() == 20);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::{Family, V4};

    #[test]
    fn claim_is_fresh_for_a_moment_and_no_longer() {
        const MS: u64 = 1_000_000;
        for start_ns in [0, 12_345_678_901_234, u64::from(u16::MAX) << 27] {
            let holder = NatHolder::new(Ipv4::new(10, 240, 1, 1), Be16(1), start_ns);
            assert!(holder.is_claiming(start_ns) && holder.is_claiming(start_ns + 100 * MS));
            assert!(holder.is_claiming(start_ns.saturating_sub(10 * MS)), "another CPU's clock");
            assert!(!holder.is_claiming(start_ns + 500 * MS));
            assert!(!holder.is_claiming(start_ns + 3_600_000 * MS));
        }
    }

    #[test]
    fn every_port_of_a_socket_has_a_bit_of_its_own() {
        let bits: std::collections::BTreeSet<_> = [TCP, UDP]
            .into_iter()
            .flat_map(|protocol| (0..=u16::MAX).map(move |port| host_port_bit(protocol, Be16::from_host(port))))
            .collect();
        assert_eq!(bits.len(), 2 * 65_536);
        assert!(bits.iter().all(|bit| bit.is_some_and(|(word, _)| word < HOST_PORT_WORDS)));
        assert_eq!(host_port_bit(V4::ICMP, Be16(7)), None);
    }
}
