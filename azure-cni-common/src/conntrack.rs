//! The state of a connection: what a packet does to it, and how long it may then stay silent.
//!
//! Loose by intent: sequence numbers are the ends' business. What the ends say by flags shortens or renews the entry;
//! it never makes the data path drop a packet of a known flow.

#[cfg(test)]
mod tests;

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::family::TCP;

/// Who sent a packet of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    Initiator,
    Responder,
}

/// Who opened a flow, as far as it can be trusted to exist.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
pub struct Origin(pub u8);

impl Origin {
    /// A pod of this node, whose source was checked, or a socket of the host.
    pub const NODE: Self = Self(0);
    /// The source that the packet names: one from the wire may be forged.
    pub const OUTSIDE: Self = Self(1);
}

/// The flags byte of a TCP header (RFC 9293 section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    pub const FIN: u8 = 0x01;
    pub const SYN: u8 = 0x02;
    pub const RST: u8 = 0x04;
    pub const ACK: u8 = 0x10;

    fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }

    /// The first packet of a connection: SYN without ACK.
    pub fn opens(self) -> bool {
        self.0 & (Self::SYN | Self::ACK | Self::RST) == Self::SYN
    }
}

/// What a packet says about its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Segment(TcpFlags),
    /// The protocol has no states: UDP, ICMP echo and all others.
    Datagram,
    /// A datagram that is never sent unasked: ICMP echo reply.
    Reply,
    /// A fragment that is not its packet's first: what the packet says was said before.
    Fragment,
}

impl Event {
    /// Whether the packet may be the first of a flow that its sender opens.
    ///
    /// A TCP segment in mid-stream may not: it belongs to a connection that began unseen. If its sender replies there, a
    /// translation would break it. If its sender opened it, the other end knows it by a port that this node does not know.
    pub fn opens(self) -> bool {
        match self {
            Event::Segment(flags) => flags.opens(),
            Event::Datagram => true,
            Event::Reply | Event::Fragment => false,
        }
    }
}

/// The state of a flow as a set of facts.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
pub struct State(pub u8);

impl State {
    pub const NEW: Self = Self(0);
    /// The responder has replied.
    pub const SEEN_REPLY: u8 = 1;
    /// The initiator went on after the reply: it exists, whatever its packets say of their source.
    pub const ESTABLISHED: u8 = 2;
    pub const INITIATOR_FIN: u8 = 4;
    pub const RESPONDER_FIN: u8 = 8;
    /// TCP: the last segment was a reset.
    pub const RESET: u8 = 16;

    pub fn has(self, fact: u8) -> bool {
        self.0 & fact != 0
    }

    fn with(self, fact: u8) -> Self {
        Self(self.0 | fact)
    }

    fn without(self, fact: u8) -> Self {
        Self(self.0 & !fact)
    }

    /// Whether both ends are known to be there, so that the flow is not to be lost to a flood of others: an initiator whose
    /// source was checked, once it has a reply; one that may be forged, once it goes on after the reply.
    pub fn is_assured(self, origin: Origin) -> bool {
        self.has(if origin == Origin::NODE { Self::SEEN_REPLY } else { Self::ESTABLISHED })
    }

    /// Either end has said that it is done.
    pub fn is_closing(self) -> bool {
        self.has(Self::INITIATOR_FIN | Self::RESPONDER_FIN | Self::RESET)
    }

    fn is_closed(self) -> bool {
        self.has(Self::RESET) || (self.has(Self::INITIATOR_FIN) && self.has(Self::RESPONDER_FIN))
    }
}

/// What a packet does to a known flow.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    Continues(State),
    /// A SYN on a closing entry (RFC 9293 section 3.6.1): its sender opens a new connection with the same ports.
    Restarts,
}

/// The step of the state machine.
pub fn observe(state: State, sender: Sender, event: Event) -> Observed {
    let flags = match event {
        Event::Fragment => return Observed::Continues(state),
        Event::Datagram | Event::Reply => {
            return Observed::Continues(match sender {
                Sender::Responder => state.with(State::SEEN_REPLY),
                Sender::Initiator if state.has(State::SEEN_REPLY) => state.with(State::ESTABLISHED),
                Sender::Initiator => state,
            });
        }
        Event::Segment(flags) => flags,
    };
    if flags.opens() && state.is_closing() {
        return Observed::Restarts;
    }
    if flags.has(TcpFlags::RST) {
        return Observed::Continues(state.with(State::RESET));
    }
    // An end that goes on after a reset did not accept it: a forged or late one must not cut a living connection short.
    let mut next = state.without(State::RESET);
    match sender {
        Sender::Responder => next = next.with(State::SEEN_REPLY),
        Sender::Initiator if next.has(State::SEEN_REPLY) && !flags.has(TcpFlags::SYN) => {
            next = next.with(State::ESTABLISHED);
        }
        Sender::Initiator => {}
    }
    if flags.has(TcpFlags::FIN) {
        next = next.with(match sender {
            Sender::Initiator => State::INITIATOR_FIN,
            Sender::Responder => State::RESPONDER_FIN,
        });
    }
    Observed::Continues(next)
}

/// How long a flow may stay silent before its entry counts as absent, in seconds.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
pub struct Timeouts {
    pub tcp_half_open_secs: u32,
    pub tcp_established_secs: u32,
    /// One end has sent FIN.
    pub tcp_half_closed_secs: u32,
    /// Both have, or a reset was seen.
    pub tcp_closed_secs: u32,
    /// UDP, ICMP echo and all others without a reply yet.
    pub datagram_one_way_secs: u32,
    pub datagram_replied_secs: u32,
}

impl Timeouts {
    /// In the range of the kernel's own tracking (net/netfilter/nf_conntrack_proto_*.c), but an established TCP flow
    /// lives one day, not five: twelve keep-alive intervals of two hours (RFC 9293 section 3.8.4).
    pub const DEFAULT: Self = Self {
        tcp_half_open_secs: 60,
        tcp_established_secs: 86_400,
        tcp_half_closed_secs: 120,
        tcp_closed_secs: 10,
        datagram_one_way_secs: 30,
        datagram_replied_secs: 180,
    };

    /// When a flow in this state expires if nothing more is seen, on the clock of `now_ns`.
    pub fn expiry_ns(&self, now_ns: u64, protocol: u8, state: State) -> u64 {
        let secs = if protocol == TCP { self.tcp_secs(state) } else { self.datagram_secs(state) };
        now_ns.saturating_add(u64::from(secs) * NS_PER_SEC)
    }

    fn tcp_secs(&self, state: State) -> u32 {
        if state.is_closed() {
            self.tcp_closed_secs
        } else if state.is_closing() {
            self.tcp_half_closed_secs
        } else if state.has(State::ESTABLISHED) {
            self.tcp_established_secs
        } else {
            self.tcp_half_open_secs
        }
    }

    fn datagram_secs(&self, state: State) -> u32 {
        if state.has(State::SEEN_REPLY) { self.datagram_replied_secs } else { self.datagram_one_way_secs }
    }
}

pub const NS_PER_SEC: u64 = 1_000_000_000;

/// Whether a new expiry is worth writing: entries are written at most once a second unless the lifetime shrinks or the
/// state changes, so that a busy flow does not pull its cache line from CPU to CPU.
pub fn is_worth_writing(old_expiry_ns: u64, new_expiry_ns: u64) -> bool {
    new_expiry_ns < old_expiry_ns || new_expiry_ns - old_expiry_ns >= NS_PER_SEC
}
