//! Keys and values of the maps that are not flows: endpoints, routes, translations.
//!
//! All are `repr(C)` with their padding spelt out; the assertions hold the layout that is pinned under [`crate::ABI`].

use crate::family::{Address, Be16, Family, Ipv4};
use crate::flow::Tuple;

/// What is known of a pod by its address. Map `ENDPOINTS4`: address → endpoint.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Index of the host veth, in the node's network namespace.
    pub ifindex: u32,
    /// Reserved, zero.
    pub flags: u32,
}

/// What is reached at a prefix. Map `ROUTES4`: longest prefix match → class.
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
}

/// The wire side of a translation: what an answer looks like when it arrives. Map `NAT4`.
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

type V4Address = <crate::family::V4 as Family>::Address;
const _: () = assert!(size_of::<Endpoint>() == 8);
const _: () = assert!(size_of::<NatKey<V4Address>>() == 16);
const _: () = assert!(size_of::<NatHolder<Ipv4>>() == 8);
