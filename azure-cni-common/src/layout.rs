//! Keys and values of the maps that are not flows: endpoints, routes, translations.
//!
//! All are `repr(C)` with their padding spelt out; the assertions hold the layout that is pinned under [`crate::ABI`].

use crate::family::{Address, Be16, Ipv4, Ipv6};
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
    pub protocol: u8,
    pub pad: [u8; 3],
}

impl<A: Address> NatKey<A> {
    /// The key that holds `node_port` for the destination of a packet that leaves.
    pub fn for_outgoing(tuple: &Tuple<A>, node: A, node_port: Be16) -> Self {
        Self {
            remote: tuple.destination,
            node,
            remote_port: tuple.destination_port,
            node_port,
            protocol: tuple.protocol,
            pad: [0; 3],
        }
    }

    /// The key that a packet from the wire asks for.
    pub fn for_incoming(tuple: &Tuple<A>) -> Self {
        Self {
            remote: tuple.source,
            node: tuple.destination,
            remote_port: tuple.source_port,
            node_port: tuple.destination_port,
            protocol: tuple.protocol,
            pad: [0; 3],
        }
    }
}

/// Who holds a port of the node towards one destination: a pod, or (with the node's own address) a socket of the host.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatHolder<A> {
    pub address: A,
    pub port: Be16,
    pub pad: [u8; 2],
}

impl<A: Address> NatHolder<A> {
    pub fn new(address: A, port: Be16) -> Self {
        Self { address, port, pad: [0; 2] }
    }

    /// The holder's own view of the flow, in the direction in which it was opened.
    pub fn opening_tuple(&self, key: &NatKey<A>) -> Tuple<A> {
        Tuple {
            source: self.address,
            destination: key.remote,
            source_port: self.port,
            destination_port: key.remote_port,
            protocol: key.protocol,
        }
    }
}

const _: () = assert!(size_of::<Endpoint>() == 8);
const _: () = assert!(size_of::<NatKey<Ipv4>>() == 16 && size_of::<NatKey<Ipv6>>() == 40);
const _: () = assert!(size_of::<NatHolder<Ipv4>>() == 8 && size_of::<NatHolder<Ipv6>>() == 20);
