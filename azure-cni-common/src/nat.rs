//! Translations: who holds which port of the node towards whom, and which port a new flow gets.
//!
//! Ports are per destination (address, port, protocol): the table of translations is keyed by the whole wire tuple, so
//! two destinations never compete. A pod has a share of the ports, see [`share`]. The flow's own port is tried first, if it is
//! in there, then the share from a start that is random to all who do not know the node's seed (RFC 6056 section 3.3.3), and
//! the same for the same flow: a flow whose memory was lost finds the port it had.

mod port_range;
pub mod share;
#[cfg(test)]
mod tests;

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::family::{Address, Be16, Ipv4, Ipv6, TCP, UDP, UDP_LITE};
use crate::flow::Tuple;

pub use port_range::PortRange;
use share::PortShare;

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

/// How many ports are tried for a new flow. At 90 % fill of one destination a flow is refused once in 10^3 times, at
/// 80 % once in 10^6.
pub const MAX_TRIES: u32 = 64;

/// How many are tried for a flow of a pod that was refused a port towards the same destination a moment ago. At 90 % fill, one
/// refusal brings one more with it by this.
pub const TRIES_AFTER_REFUSAL: u32 = 8;

/// How many of the same ports are then looked at for a holder whose flow is over.
pub const MAX_TAKE_OVERS: u32 = 8;

/// What tells one search for a port from another: the node's seed and the tuple, mixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SearchKeys {
    /// The same for all flows of a pod: chooses its share.
    pub pod: u32,
    /// Where the search begins.
    pub start: u32,
}

impl SearchKeys {
    pub fn of<A: Address>(seed: u32, tuple: &Tuple<A>) -> Self {
        let ports = u32::from(tuple.source_port.0) << 16 | u32::from(tuple.destination_port.0);
        let of_pod = mix(u64::from(seed), tuple.source.fold());
        let of_flow = mix(mix(of_pod ^ u64::from(tuple.protocol), tuple.destination.fold()), ports);
        Self { pod: (of_pod >> 32) as u32, start: (of_flow >> 32) as u32 }
    }
}

/// One more word, mixed with those before.
pub(crate) const fn mix(mixed: u64, word: u32) -> u64 {
    let mixed = (mixed ^ word as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ mixed >> 29
}

/// The candidates for one flow.
#[derive(Clone, Copy, Debug)]
pub struct Candidates {
    share: PortShare,
    preferred: Be16,
    start: u32,
    has_ports: bool,
}

impl Candidates {
    /// `blocks`: how much of the range a pod may hold, see [`share`].
    pub fn new(range: PortRange, blocks: u32, protocol: u8, icmp: u8, preferred: Be16, keys: SearchKeys) -> Self {
        let has_ports = matches!(protocol, TCP | UDP | UDP_LITE) || protocol == icmp;
        let share = PortShare::new(range, blocks, keys.pod);
        Self { share, preferred, start: keys.start % share.size().max(1), has_ports }
    }

    /// Whether the flow's protocol has ports to tell two flows to one destination apart.
    pub fn has_ports(&self) -> bool {
        self.has_ports
    }

    /// The `try_number`th port to try, counted from 0; none when there is nothing more to try.
    ///
    /// Try 0 is the flow's own port if the pod may hold it. The following ones walk the pod's share in steps that have no
    /// divisor in common with its size: every port comes once in `size` steps, and a run of ports in use costs no more than as
    /// many scattered ones. A protocol without ports has one candidate, 0: one holder per destination.
    pub fn port(&self, try_number: u32) -> Option<Be16> {
        if !self.has_ports {
            return if try_number == 0 { Some(Be16(0)) } else { None };
        }
        let size = self.share.size();
        if try_number > size {
            return None;
        }
        if try_number == 0 && self.share.contains(self.preferred) {
            return Some(self.preferred);
        }
        // At most 2^16 * 7919: no overflow.
        Some(self.share.port((self.start + try_number * stride(size)) % size.max(1)))
    }
}

/// A prime that does not divide `size`.
fn stride(size: u32) -> u32 {
    if size.is_multiple_of(7919) { 7907 } else { 7919 }
}

const _: () = assert!(size_of::<NatKey<Ipv4>>() == 16 && size_of::<NatKey<Ipv6>>() == 40);
const _: () = assert!(size_of::<NatHolder<Ipv4>>() == 8 && size_of::<NatHolder<Ipv6>>() == 20);
