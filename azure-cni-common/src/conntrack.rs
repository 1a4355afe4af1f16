//! The state of a connection: what a packet does to it.
//!
//! What comes from this node is believed. What comes from outside may be forged: a TCP segment counts if its numbers show that
//! its sender sees the node side's packets (`tcp`). A datagram can show nothing: it shortens no flow, and assures none unless the node
//! side goes on after it.
//! None of it ever makes the data path drop a packet of a known flow.

#[cfg(test)]
mod tests;

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::family::{Be16, UDP};
use crate::tcp::{NodeNumbers, Segment, TcpFlags};

/// Who sent a packet of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    Initiator,
    Responder,
}

/// Where a packet comes from, or the first packet of a flow.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
pub struct Origin(pub u8);

impl Origin {
    /// A pod of this node, whose source was checked, or a socket of the host.
    pub const NODE: Self = Self(0);
    /// The source that the packet names: one from the wire may be forged.
    pub const OUTSIDE: Self = Self(1);

    /// The end of a flow that began there whose packets are checked. Between two pods of this node both are.
    pub fn node_side(self) -> Sender {
        if self == Self::NODE { Sender::Initiator } else { Sender::Responder }
    }
}

/// What a packet is to its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    Segment,
    /// The protocol has no states: UDP, ICMP echo and all others.
    Datagram,
    /// A datagram that is never sent unasked: ICMP echo reply.
    Reply,
    /// A fragment that is not its packet's first: what the packet says was said before.
    Fragment,
}

/// What a packet says about its flow.
///
/// There is a segment whatever the packet is. The payload of one variant would be left unset in the others, and the compiler
/// moves such words around where kernels before 6.3 refuse to read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'segment> {
    kind: EventKind,
    /// Of no meaning but in a [`EventKind::Segment`].
    segment: &'segment Segment,
}

impl Event<'static> {
    pub const DATAGRAM: Self = Self::new(EventKind::Datagram, &Segment::bare(0));
    pub const REPLY: Self = Self::new(EventKind::Reply, &Segment::bare(0));
    pub const FRAGMENT: Self = Self::new(EventKind::Fragment, &Segment::bare(0));
}

impl<'segment> Event<'segment> {
    /// Of a packet that is no segment, any will do.
    pub const fn new(kind: EventKind, segment: &'segment Segment) -> Self {
        Self { kind, segment }
    }

    pub const fn segment(segment: &'segment Segment) -> Self {
        Self::new(EventKind::Segment, segment)
    }

    /// Whether the packet may be the first of a flow that its sender opens.
    ///
    /// A TCP segment in mid-stream may not: it belongs to a connection that began unseen. If its sender replies there, a
    /// translation would break it. If its sender opened it, the other end knows it by a port that this node does not know.
    pub fn opens(self) -> bool {
        match self.kind {
            EventKind::Segment => self.segment.flags.opens(),
            EventKind::Datagram => true,
            EventKind::Reply | EventKind::Fragment => false,
        }
    }

    /// Whether its sender answers one who opened a flow, and says so: a SYN-ACK.
    pub fn answers(self) -> bool {
        let flags = self.segment.flags;
        self.kind == EventKind::Segment && flags.has(TcpFlags::SYN) && flags.has(TcpFlags::ACK)
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
    /// The initiator went on after the reply.
    pub const ESTABLISHED: u8 = 2;
    pub const INITIATOR_FIN: u8 = 4;
    pub const RESPONDER_FIN: u8 = 8;
    /// TCP: reset, and the node side has not gone on since.
    pub const RESET: u8 = 16;
    /// TCP: a segment of the node side was seen, and with it [`NodeNumbers::sent_end`].
    pub const SENT: u8 = 32;
    /// TCP: it has acknowledged something: [`NodeNumbers::acked`].
    pub const ACKED: u8 = 64;
    /// Both ends are known to be there: the flow is not to be lost to a flood of others.
    pub const ASSURED: u8 = 128;

    pub fn has(self, fact: u8) -> bool {
        self.0 & fact != 0
    }

    fn with(self, fact: u8) -> Self {
        Self(self.0 | fact)
    }

    fn without(self, fact: u8) -> Self {
        Self(self.0 & !fact)
    }

    /// See [`State::ASSURED`].
    pub fn is_assured(self) -> bool {
        self.has(Self::ASSURED)
    }

    /// A TCP flow is assured by the reply if this node opened it, else when its initiator goes on after the reply: it has to have
    /// received that for it.
    fn assured_for(self, origin: Origin) -> Self {
        let shown = if origin == Origin::NODE { Self::SEEN_REPLY } else { Self::ESTABLISHED };
        if self.has(shown) { self.with(Self::ASSURED) } else { self }
    }

    /// Without what assures a flow. What datagrams have seen of a reply shows nothing, and stays.
    pub fn without_proof(self, is_tcp: bool) -> Self {
        let shown = if is_tcp { Self::SEEN_REPLY } else { 0 };
        self.without(Self::ASSURED | Self::ESTABLISHED | shown)
    }

    fn with_fin_of(self, sender: Sender) -> Self {
        self.with(match sender {
            Sender::Initiator => Self::INITIATOR_FIN,
            Sender::Responder => Self::RESPONDER_FIN,
        })
    }

    /// Either end has said that it is done.
    pub fn is_closing(self) -> bool {
        self.has(Self::INITIATOR_FIN | Self::RESPONDER_FIN | Self::RESET)
    }

    pub fn is_closed(self) -> bool {
        self.has(Self::RESET) || (self.has(Self::INITIATOR_FIN) && self.has(Self::RESPONDER_FIN))
    }
}

/// What was seen of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub state: State,
    /// Of TCP. Other flows have no numbers, and keep in their place when they began: [`Seen::datagram`].
    pub numbers: NodeNumbers,
}

impl Seen {
    /// A TCP flow of which the node side has sent nothing yet.
    pub const NEW: Self = Self { state: State::NEW, numbers: NodeNumbers { sent_end: 0, acked: 0 } };

    /// A flow of datagrams that begins now.
    pub const fn datagram(state: State, now_ns: u64) -> Self {
        Self { state, numbers: NodeNumbers { sent_end: ticks(now_ns), acked: 0 } }
    }

    fn has_lasted(&self, ticks_at_least: u32, now_ns: u64) -> bool {
        ticks(now_ns).wrapping_sub(self.numbers.sent_end) >= ticks_at_least
    }
}

/// Eighths of a second, about; they wrap after 18 years.
const fn ticks(now_ns: u64) -> u32 {
    (now_ns >> 27) as u32
}

/// Datagrams that go on for two seconds are a stream, as to the kernel (net/netfilter/nf_conntrack_proto_udp.c).
const STREAM_TICKS: u32 = 15;

/// How a packet came.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    pub sender: Sender,
    /// [`Origin::NODE`] if the packet's source was checked.
    pub from: Origin,
    pub now_ns: u64,
    /// Without an acknowledgement from outside, the flow is over in minutes.
    pub is_awaited: bool,
}

/// What a packet does to a known flow.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// It may be forged: the flow stays as it is, and its expiry too.
    Nothing,
    Continues {
        seen: Seen,
        /// The node side has sent data, which the other end has yet to acknowledge.
        is_owed: bool,
    },
    /// A SYN on a closing entry (RFC 9293 section 3.6.1), or of the node side on one that nothing but an outsider's SYN made: its
    /// sender opens a new connection with the same ports.
    Restarts,
}

impl Observed {
    fn continues(state: State, numbers: NodeNumbers) -> Self {
        Self::Continues { seen: Seen { state, numbers }, is_owed: false }
    }
}

/// The step of the state machine. `origin` is the flow's.
#[inline(always)]
pub fn observe(seen: Seen, origin: Origin, arrival: &Arrival, event: Event) -> Observed {
    let is_node_side = arrival.sender == origin.node_side();
    if arrival.from == Origin::OUTSIDE && is_node_side {
        return Observed::Nothing;
    }
    let is_from_node = arrival.from == Origin::NODE;
    match event.kind {
        EventKind::Segment if is_from_node => from_node(seen, origin, arrival.sender, event.segment),
        EventKind::Segment => from_outside(seen, origin, arrival, event.segment),
        EventKind::Datagram | EventKind::Reply => datagram(seen, origin, arrival),
        EventKind::Fragment if is_from_node => Observed::continues(seen.state, seen.numbers),
        EventKind::Fragment => Observed::Nothing,
    }
}

#[inline(always)]
fn datagram(seen: Seen, origin: Origin, arrival: &Arrival) -> Observed {
    let Seen { state, numbers } = seen;
    let state = match arrival.sender {
        Sender::Responder => state.with(State::SEEN_REPLY),
        Sender::Initiator if state.has(State::SEEN_REPLY) && seen.has_lasted(STREAM_TICKS, arrival.now_ns) => {
            // Nothing shows that an initiator outside has received the reply.
            state.with(if origin == Origin::NODE { State::ESTABLISHED | State::ASSURED } else { State::ESTABLISHED })
        }
        Sender::Initiator => state,
    };
    Observed::continues(state, numbers)
}

#[inline(always)]
fn from_node(seen: Seen, origin: Origin, sender: Sender, segment: &Segment) -> Observed {
    let Seen { mut state, mut numbers } = seen;
    let flags = segment.flags;
    let is_node_side = sender == origin.node_side();
    // A SYN that nothing has proven does not make the node side's own an answer.
    let is_answer = !is_node_side || origin == Origin::NODE || state.is_assured();
    if flags.opens() && (state.is_closing() || !is_answer) {
        return Observed::Restarts;
    }
    if flags.has(TcpFlags::RST) {
        // It has the number that another segment acknowledged. Of a connection that stands, none but an end that is gone sends it
        // (RFC 9293 section 3.10.7); before that, whoever guesses an acknowledgement is answered so.
        let stands = state.is_assured() && state.has(State::ACKED);
        let is_asked_for = is_node_side && !flags.has(TcpFlags::ACK) && state.has(State::SENT) && !stands;
        if is_asked_for && !numbers.are_own_of(segment) {
            return Observed::Nothing;
        }
        return Observed::continues(state.with(State::RESET), numbers);
    }
    // An end that goes on after a reset did not accept it.
    state = state.without(State::RESET);
    if is_node_side {
        let has_acked = state.has(State::ACKED);
        numbers =
            if state.has(State::SENT) { numbers.after(segment, has_acked) } else { NodeNumbers::first_of(segment) };
        state = state.with(State::SENT);
        if flags.has(TcpFlags::ACK) {
            state = state.with(State::ACKED);
        } else if flags.has(TcpFlags::SYN) {
            state = state.without(State::ACKED);
        }
    }
    match sender {
        Sender::Responder => state = state.with(State::SEEN_REPLY),
        Sender::Initiator if state.has(State::SEEN_REPLY) && !flags.has(TcpFlags::SYN) => {
            state = state.with(State::ESTABLISHED);
        }
        Sender::Initiator => {}
    }
    if flags.has(TcpFlags::FIN) {
        state = state.with_fin_of(sender);
    }
    let seen = Seen { state: state.assured_for(origin), numbers };
    Observed::Continues { seen, is_owed: is_node_side && segment.length > 0 }
}

/// Each way to [`Observed::Continues`] is one guess out of 2^16 at most, and so are all that one segment can take.
#[inline(always)]
fn from_outside(seen: Seen, origin: Origin, arrival: &Arrival, segment: &Segment) -> Observed {
    let Seen { mut state, numbers } = seen;
    let sender = arrival.sender;
    let flags = segment.flags;
    if flags.opens() {
        return if state.is_closed() { Observed::Restarts } else { Observed::Nothing };
    }
    if flags.has(TcpFlags::RST) {
        // What the node side has acknowledged is a number of the other end's once that has shown that it is there.
        let knows_both = state.is_assured() && state.has(State::ACKED);
        let fits = match (knows_both, flags.has(TcpFlags::ACK)) {
            (true, true) => numbers.fit(segment),
            (true, false) => numbers.are_next_of(segment),
            // It refuses the node side's SYN.
            (false, _) => state.has(State::SENT) && numbers.is_received_by(segment),
        };
        let state = state.with(State::RESET);
        return if fits { Observed::continues(state, numbers) } else { Observed::Nothing };
    }
    if !state.is_assured() {
        let is_open = state.has(State::SENT) && numbers.is_received_by(segment);
        match sender {
            Sender::Responder if is_open => state = state.with(State::SEEN_REPLY),
            Sender::Initiator if is_open && state.has(State::SEEN_REPLY) && !flags.has(TcpFlags::SYN) => {
                state = state.with(State::ESTABLISHED);
            }
            _ => return Observed::Nothing,
        }
        state = state.assured_for(origin);
    }
    let ends = flags.has(TcpFlags::FIN);
    let fits = (ends || arrival.is_awaited) && state.has(State::ACKED) && numbers.fit(segment);
    if ends && fits {
        state = state.with_fin_of(sender);
    }
    // What fits acknowledges what was sent: its sender is there.
    if fits || state != seen.state { Observed::continues(state, numbers) } else { Observed::Nothing }
}

/// Whether a packet from outside may open a flow, given that it could: what can only be an answer may not. A flow that it opened would make
/// the pod's own question from that port an answer, which leaves with the pod's address and gets none.
pub fn may_open_from_outside(protocol: u8, source_port: Be16, destination_port: Be16) -> bool {
    let is_answer = QUESTION_PORTS.contains(&source_port) && !QUESTION_PORTS.contains(&destination_port);
    protocol != UDP || !is_answer
}

/// Where one datagram asks and one replies: DNS and NTP (IANA port numbers).
pub(crate) const QUESTION_PORTS: [Be16; 2] = [Be16::from_host(53), Be16::from_host(123)];
