//! Translations: who holds which port of the node towards whom, and which port a new flow gets.
//!
//! Ports are per destination (address, port, protocol): the table of translations is keyed by the whole wire tuple, so
//! two destinations never compete. The flow's own port is tried first, then the range from a start that is random to
//! all who do not know the node's seed (RFC 6056 section 3.3.3), and the same for the same flow: a flow whose
//! memory was lost finds the port it had.

#[cfg(test)]
mod tests;

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::family::{Address, Be16, Ipv4, Ipv6, TCP, UDP, UDP_LITE};
use crate::flow::Tuple;

/// The wire side of a translation: what a reply looks like when it arrives. Maps `NAT4` and `NAT6`, and
/// `NAT_HALF_OPEN4` and `NAT_HALF_OPEN6` until the other side has replied.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, Immutable)]
pub struct NatKey<A> {
    pub remote: A,
    /// The node's address that the reply is sent to.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, Immutable)]
pub struct NatHolder<A> {
    pub address: A,
    pub port: Be16,
    pub claimed: ClaimTime,
}

/// When a port was claimed, in eighths of a second, wrapping after two hours: a claim is made a moment before its flow
/// is remembered, and in that moment no other CPU may take it for a port whose flow is over.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
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
    pub fn initiator_tuple(&self, key: &NatKey<A>) -> Tuple<A> {
        Tuple {
            source: self.address,
            destination: key.remote,
            source_port: self.port,
            destination_port: key.remote_port,
            protocol: key.protocol(),
        }
    }
}

/// Ports that translated flows may use, both ends included. Host byte order.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
pub struct PortRange {
    pub first: u16,
    pub last: u16,
}

impl PortRange {
    /// Below the NodePorts of Kubernetes (30000–32767) and the kernel's ephemeral ports (32768–60999,
    /// net.ipv4.ip_local_port_range), above the privileged ones: a flow of the host and one of a pod never meet.
    pub const DEFAULT: Self = Self { first: 1024, last: 29_999 };

    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }

    /// At least 1.
    pub const fn size(self) -> u32 {
        self.last.saturating_sub(self.first) as u32 + 1
    }
}

/// How many ports are tried for a new flow. At 90 % fill of one destination a flow is refused once in 10^3 times, at
/// 80 % once in 10^6.
pub const MAX_TRIES: u32 = 64;

/// How many of the same ports are then looked at for a holder whose flow is over.
pub const MAX_TAKE_OVERS: u32 = 8;

/// Where the search for a flow's port begins: all of the tuple and the node's seed, mixed.
pub fn search_start<A: Address>(seed: u32, tuple: &Tuple<A>) -> u32 {
    let ports = u32::from(tuple.source_port.0) << 16 | u32::from(tuple.destination_port.0);
    let mut mixed = u64::from(seed) ^ u64::from(tuple.protocol) << 32;
    for word in [tuple.source.fold(), tuple.destination.fold(), ports] {
        mixed = (mixed ^ u64::from(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^= mixed >> 29;
    }
    (mixed >> 32) as u32
}

/// The candidates for one flow.
#[derive(Clone, Copy, Debug)]
pub struct Candidates {
    range: PortRange,
    preferred: Be16,
    start: u32,
    has_ports: bool,
}

impl Candidates {
    /// `start` is any 32 bits, see [`search_start`].
    pub fn new(range: PortRange, protocol: u8, icmp: u8, preferred: Be16, start: u32) -> Self {
        let has_ports = matches!(protocol, TCP | UDP | UDP_LITE) || protocol == icmp;
        Self { range, preferred, start: start % range.size(), has_ports }
    }

    /// The `try_number`th port to try, counted from 0; none when there is nothing more to try.
    ///
    /// Try 0 is the flow's own port if it lies in the range. The following ones walk the range in steps that share no
    /// divisor with its size: every port comes once in `size` steps, and a run of ports in use costs no more than as
    /// many scattered ones. A protocol without ports has one candidate, 0: one holder per destination.
    pub fn port(&self, try_number: u32) -> Option<Be16> {
        if !self.has_ports {
            return if try_number == 0 { Some(Be16(0)) } else { None };
        }
        let size = self.range.size();
        if try_number > size {
            return None;
        }
        if try_number == 0 && self.range.contains(self.preferred.to_host()) {
            return Some(self.preferred);
        }
        // At most 2^16 * 7919: no overflow.
        let offset = (self.start + try_number * stride(size)) % size;
        Some(Be16::from_host(self.range.first + offset as u16))
    }
}

/// A prime that does not divide `size`.
fn stride(size: u32) -> u32 {
    if size.is_multiple_of(7919) { 7907 } else { 7919 }
}

const _: () = assert!(size_of::<NatKey<Ipv4>>() == 16 && size_of::<NatKey<Ipv6>>() == 40);
const _: () = assert!(size_of::<NatHolder<Ipv4>>() == 8 && size_of::<NatHolder<Ipv6>>() == 20);
