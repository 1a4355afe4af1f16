//! What is remembered of a packet's first fragment, so that its later ones find their ports.

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::family::{Be16, Ipv4, Ipv6};

/// What the fragments of one packet have in common (RFC 791 section 3.2, RFC 8200 section 4.5). Maps `FRAGMENTS4`, 6.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, Immutable)]
pub struct FragmentKey<A> {
    pub source: A,
    pub destination: A,
    /// As it stands in the packet.
    pub identification: u32,
    pub protocol: u32,
}

/// What only the first fragment has.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
pub struct FragmentPorts {
    /// CLOCK_MONOTONIC, nanoseconds.
    pub expires_ns: u64,
    pub source_port: Be16,
    pub destination_port: Be16,
    pub pad: u32,
}

const _: () = assert!(size_of::<FragmentKey<Ipv4>>() == 16 && size_of::<FragmentKey<Ipv6>>() == 40);
const _: () = assert!(size_of::<FragmentPorts>() == 16);
