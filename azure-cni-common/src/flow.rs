//! A flow and its one entry in the connection table.
//!
//! The rule: one connection, one entry. The key is the same for both directions, so a reply finds what the initiator left.

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::conntrack::{Arrival, Event, Observed, Origin, Seen, Sender, State, observe};
use crate::family::{Address, Be16, Ipv4, Ipv6};
use crate::lifetime::{Lifetime, NS_PER_SEC, Timeout, UNACKNOWLEDGED_SECS};
use crate::tcp::NodeNumbers;

/// The addresses and ports of a packet, in its own direction.
///
/// ICMP echo: the identifier is the port of the side that asks, the other side's port is 0.
/// Protocols without ports have 0 for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple<A> {
    pub source: A,
    pub destination: A,
    pub source_port: Be16,
    pub destination_port: Be16,
    pub protocol: u8,
}

impl<A: Address> Tuple<A> {
    pub fn reversed(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            protocol: self.protocol,
        }
    }
}

/// Which half of a [`FlowKey`] a packet came from.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
pub struct Side(pub u8);

impl Side {
    pub const LOW: Self = Self(0);
    pub const HIGH: Self = Self(1);

    pub const fn other(self) -> Self {
        Self(self.0 ^ 1)
    }
}

/// Key of a flow: the tuple with the lower (address, port) first, the same for both directions. Maps
/// `FLOWS4` and `FLOWS6`; until the flow is assured, `HALF_OPEN4` and `HALF_OPEN6` for TCP, `DATAGRAMS4` and `DATAGRAMS6` for all
/// others.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, Immutable)]
pub struct FlowKey<A> {
    pub low: A,
    pub high: A,
    pub low_port: Be16,
    pub high_port: Be16,
    /// A whole word: three bytes of padding would cost a call of `memset` for each packet.
    pub protocol: u32,
}

impl<A: Address> FlowKey<A> {
    /// The key of the packet's flow and the side that sent the packet.
    pub fn of(tuple: &Tuple<A>) -> (Self, Side) {
        let mut key =
            Self { low: A::UNSPECIFIED, high: A::UNSPECIFIED, low_port: Be16(0), high_port: Be16(0), protocol: 0 };
        let side = key.set(tuple);
        (key, side)
    }

    /// [`Self::of`] in place, without a copy on the stack.
    #[inline(always)]
    pub fn set(&mut self, tuple: &Tuple<A>) -> Side {
        let source_is_low = tuple.source < tuple.destination
            || (tuple.source == tuple.destination && tuple.source_port <= tuple.destination_port);
        self.protocol = u32::from(tuple.protocol);
        if source_is_low {
            (self.low, self.low_port) = (tuple.source, tuple.source_port);
            (self.high, self.high_port) = (tuple.destination, tuple.destination_port);
            Side::LOW
        } else {
            (self.low, self.low_port) = (tuple.destination, tuple.destination_port);
            (self.high, self.high_port) = (tuple.source, tuple.source_port);
            Side::HIGH
        }
    }

    pub fn protocol(&self) -> u8 {
        self.protocol as u8
    }

    pub fn address_of(&self, side: Side) -> &A {
        if side == Side::LOW { &self.low } else { &self.high }
    }

    /// The tuple of a packet that `side` sends.
    pub fn tuple_from(&self, side: Side) -> Tuple<A> {
        let low = Tuple {
            source: self.low,
            destination: self.high,
            source_port: self.low_port,
            destination_port: self.high_port,
            protocol: self.protocol(),
        };
        if side == Side::LOW { low } else { low.reversed() }
    }
}

/// How the packets of a flow travel between the pod and its peer, both ways.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
pub struct Path(pub u8);

impl Path {
    /// Of no flow that is known.
    pub const UNKNOWN: Self = Self(0);
    /// Straight between the pod and the uplink.
    pub const WIRE: Self = Self(1);
    /// Through the host's stack, because it may translate or terminate the flow; replies must pass it again.
    pub const STACK: Self = Self(2);
    /// Straight between two pods of this node.
    pub const LOCAL: Self = Self(3);
    /// A flow of the host's own sockets, tracked because it holds a port of the NAT range.
    pub const HOST: Self = Self(4);
}

/// Whether the source of the initiator's packets is translated.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
pub struct Nat(pub u8);

impl Nat {
    /// Not decided: the flow went up the host's stack and has not been seen on its way out.
    pub const UNDECIDED: Self = Self(0);
    /// The pod's address is kept.
    pub const KEEP: Self = Self(1);
    /// The initiator's packets leave from the node's address and [`Flow::nat_port`].
    pub const TRANSLATED: Self = Self(2);
}

/// What is remembered of a flow: the value of all flow maps.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
pub struct Flow {
    /// CLOCK_MONOTONIC, nanoseconds; from then on the entry counts as absent.
    pub expires_ns: u64,
    /// See [`Seen`].
    pub numbers: NodeNumbers,
    /// Meaningful with [`Nat::TRANSLATED`] only.
    pub nat_port: Be16,
    pub state: State,
    pub path: Path,
    pub nat: Nat,
    pub initiator: Side,
    pub origin: Origin,
    pub lifetime: Lifetime,
}

impl Flow {
    #[inline(always)]
    pub fn new<A: Address>(
        key: &FlowKey<A>,
        initiator: Side,
        origin: Origin,
        path: Path,
        nat: Nat,
        seen: Seen,
    ) -> Self {
        let responder_port = if initiator == Side::LOW { key.high_port } else { key.low_port };
        let lifetime = Lifetime::of(key.protocol(), origin, responder_port);
        let Seen { state, numbers } = seen;
        Self { expires_ns: 0, numbers, nat_port: Be16(0), state, path, nat, initiator, origin, lifetime }
    }

    /// What a packet of `side` does to the flow.
    #[inline(always)]
    pub fn observe(&self, side: Side, from: Origin, event: Event, now_ns: u64) -> Observed {
        let is_awaited = self.expires_ns < now_ns + u64::from(UNACKNOWLEDGED_SECS + 1) * NS_PER_SEC;
        let arrival = Arrival { sender: self.sender(side), from, now_ns, is_awaited };
        match observe(self.seen(), self.origin, &arrival, event) {
            // A question has one answer: whoever forges more keeps no port of the node from others.
            Observed::Continues { seen, .. }
                if self.lifetime == Lifetime::QUESTION && from == Origin::OUTSIDE && seen.state == self.state =>
            {
                Observed::Nothing
            }
            observed => observed,
        }
    }

    pub fn seen(&self) -> Seen {
        Seen { state: self.state, numbers: self.numbers }
    }

    /// When the flow expires once it has gone on to `seen`, and whether that is worth writing. `secs_of` is [`Timeouts::secs`]; `now_ns`
    /// has 63 bits, so nothing overflows. Entries are written at most once a second unless the lifetime shrinks, the state changes
    /// or the numbers have moved far, so that a busy flow does not pull its cache line from CPU to CPU. Until a flow is assured,
    /// its numbers are right to the byte.
    ///
    /// `is_owed` as in [`Observed::Continues`]: a connection whose other end has acknowledged nothing for a second, while there was something
    /// to acknowledge, lasts [`UNACKNOWLEDGED_SECS`] at most. Ends that are gone without a word hold nothing for a day.
    #[inline(always)]
    pub fn renewal(&self, seen: Seen, is_owed: bool, secs_of: impl Fn(Timeout) -> u32, now_ns: u64) -> (u64, bool) {
        let secs = secs_of(Timeout::of(self.lifetime, seen.state));
        let mut expires_ns = now_ns + u64::from(secs) * NS_PER_SEC;
        if self.lifetime != Lifetime::TCP {
            expires_ns = expires_ns.max(self.expires_ns);
        } else if is_owed && seen.state == self.state {
            // The entry expires that long after the other end was last heard, as far as that was written: if it has been heard since,
            // its next acknowledgement gives the time back.
            let has_been_heard = expires_ns.wrapping_sub(self.expires_ns) < NS_PER_SEC;
            let unheard_ns = now_ns + u64::from(secs.min(UNACKNOWLEDGED_SECS)) * NS_PER_SEC;
            expires_ns = if has_been_heard { self.expires_ns } else { unheard_ns };
        }
        // Of a lifetime that shrinks the difference wraps.
        let is_due = expires_ns.wrapping_sub(self.expires_ns) >= NS_PER_SEC;
        let has_moved = if seen.state.is_assured() {
            seen.numbers.has_moved_on_from(self.numbers)
        } else {
            seen.numbers != self.numbers
        };
        (expires_ns, is_due || has_moved || seen.state != self.state)
    }

    fn sender(&self, side: Side) -> Sender {
        if side == self.initiator { Sender::Initiator } else { Sender::Responder }
    }

    /// The side whose flow it is: the node's, where a pod or the host is. Between two pods, the one that opened it.
    pub fn node_side(&self) -> Side {
        match self.origin.node_side() {
            Sender::Initiator => self.initiator,
            Sender::Responder => self.initiator.other(),
        }
    }

    /// Whether the flow holds this port of the node towards its peer.
    pub fn holds_port(&self, port: Be16) -> bool {
        match self.nat {
            Nat::TRANSLATED => self.nat_port == port,
            // A socket of the host holds the port it is bound to, which is in the key.
            _ => self.path == Path::HOST,
        }
    }

    /// See [`State::ASSURED`].
    pub fn is_assured(&self) -> bool {
        self.state.is_assured()
    }

    /// The flow before anything showed that its other end is there.
    pub fn demoted(&self) -> Self {
        Self { state: self.state.without_proof(self.lifetime == Lifetime::TCP), ..*self }
    }

    pub fn is_live(&self, now_ns: u64) -> bool {
        now_ns < self.expires_ns
    }
}

const _: () = assert!(size_of::<FlowKey<Ipv4>>() == 16 && size_of::<FlowKey<Ipv6>>() == 40);
const _: () = assert!(size_of::<Flow>() == 24);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tuples() -> impl Strategy<Value = Tuple<Ipv4>> {
        // Few values, so that equal addresses and ports come up.
        (0u32..4, 0u32..4, 0u16..4, 0u16..4, any::<u8>()).prop_map(|(s, d, sp, dp, protocol)| Tuple {
            source: Ipv4(s),
            destination: Ipv4(d),
            source_port: Be16(sp),
            destination_port: Be16(dp),
            protocol,
        })
    }

    proptest! {
        #[test]
        fn both_directions_have_the_same_key(tuple in tuples()) {
            let (key, side) = FlowKey::of(&tuple);
            let (reverse_key, reverse_side) = FlowKey::of(&tuple.reversed());
            prop_assert_eq!(key, reverse_key);
            prop_assert_eq!(key.tuple_from(side), tuple);
            // Only a packet from a socket to itself has no second side.
            let to_itself = tuple == tuple.reversed();
            prop_assert_eq!(side == reverse_side, to_itself);
        }

        #[test]
        fn different_flows_have_different_keys(a in tuples(), b in tuples()) {
            let same_flow = a == b || a == b.reversed();
            prop_assert_eq!(FlowKey::of(&a).0 == FlowKey::of(&b).0, same_flow);
        }
    }
}
