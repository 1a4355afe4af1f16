//! The state of a connection: what a packet does to it, and how long it may then stay silent.
//!
//! Loose by intent: sequence numbers are the ends' business. What the ends say by flags shortens or renews the entry;
//! it never makes the data path drop a packet of a known flow.

use crate::family::TCP;
use crate::flow::Origin;

/// Who sent a packet of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    Opener,
    Responder,
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
    /// A datagram that nobody sends unasked: ICMP echo reply.
    Answer,
    /// A fragment that is not its packet's first: what the packet says was said before.
    Fragment,
}

impl Event {
    /// Whether the packet may be the first of a flow that its sender opens.
    ///
    /// A TCP segment in mid-stream may not: it belongs to a connection that began unseen. If its sender answers there, a
    /// translation would break it; if its sender opened it, the other end knows it by a port that nobody here knows.
    pub fn opens(self) -> bool {
        match self {
            Event::Segment(flags) => flags.opens(),
            Event::Datagram => true,
            Event::Answer | Event::Fragment => false,
        }
    }
}

/// The state of a flow as a set of facts.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State(pub u8);

impl State {
    pub const NEW: Self = Self(0);
    /// The responder has answered.
    pub const REPLIED: u8 = 1;
    /// The opener went on after the answer: it exists, whatever its packets say of their source.
    pub const ESTABLISHED: u8 = 2;
    pub const OPENER_FIN: u8 = 4;
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

    /// Whether both ends are known to be there, so that the flow is not to be lost to a flood of others: an opener whose
    /// source was checked, once it is answered; one that may be forged, once it goes on after the answer.
    pub fn is_settled(self, origin: Origin) -> bool {
        self.has(if origin == Origin::NODE { Self::REPLIED } else { Self::ESTABLISHED })
    }

    /// Either end has said that it is done.
    pub fn is_closing(self) -> bool {
        self.has(Self::OPENER_FIN | Self::RESPONDER_FIN | Self::RESET)
    }

    fn is_closed(self) -> bool {
        self.has(Self::RESET) || (self.has(Self::OPENER_FIN) && self.has(Self::RESPONDER_FIN))
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
        Event::Datagram | Event::Answer => {
            return Observed::Continues(match sender {
                Sender::Responder => state.with(State::REPLIED),
                Sender::Opener if state.has(State::REPLIED) => state.with(State::ESTABLISHED),
                Sender::Opener => state,
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
    // Whoever goes on after a reset did not accept it: a forged or late one must not cut a living connection short.
    let mut next = state.without(State::RESET);
    match sender {
        Sender::Responder => next = next.with(State::REPLIED),
        Sender::Opener if next.has(State::REPLIED) && !flags.has(TcpFlags::SYN) => {
            next = next.with(State::ESTABLISHED);
        }
        Sender::Opener => {}
    }
    if flags.has(TcpFlags::FIN) {
        next = next.with(match sender {
            Sender::Opener => State::OPENER_FIN,
            Sender::Responder => State::RESPONDER_FIN,
        });
    }
    Observed::Continues(next)
}

/// How long a flow may stay silent before its entry counts as absent, in seconds.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    pub tcp_opening_secs: u32,
    pub tcp_established_secs: u32,
    /// One end has sent FIN.
    pub tcp_half_closed_secs: u32,
    /// Both have, or a reset was seen.
    pub tcp_closed_secs: u32,
    /// UDP, ICMP echo and all others without an answer yet.
    pub datagram_one_way_secs: u32,
    pub datagram_replied_secs: u32,
}

impl Timeouts {
    /// In the range of the kernel's own tracking (net/netfilter/nf_conntrack_proto_*.c), but an established TCP flow
    /// lives one day, not five: twelve keep-alive intervals of two hours (RFC 9293 section 3.8.4).
    pub const DEFAULT: Self = Self {
        tcp_opening_secs: 60,
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
            self.tcp_opening_secs
        }
    }

    fn datagram_secs(&self, state: State) -> u32 {
        if state.has(State::REPLIED) { self.datagram_replied_secs } else { self.datagram_one_way_secs }
    }
}

pub const NS_PER_SEC: u64 = 1_000_000_000;

/// Whether a new expiry is worth writing: entries are written at most once a second unless the lifetime shrinks or the
/// state changes, so that a busy flow does not pull its cache line from CPU to CPU.
pub fn is_worth_writing(old_expiry_ns: u64, new_expiry_ns: u64) -> bool {
    new_expiry_ns < old_expiry_ns || new_expiry_ns - old_expiry_ns >= NS_PER_SEC
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SYN: Event = Event::Segment(TcpFlags(TcpFlags::SYN));
    const SYN_ACK: Event = Event::Segment(TcpFlags(TcpFlags::SYN | TcpFlags::ACK));
    const ACK: Event = Event::Segment(TcpFlags(TcpFlags::ACK));
    const FIN: Event = Event::Segment(TcpFlags(TcpFlags::FIN | TcpFlags::ACK));
    const RST: Event = Event::Segment(TcpFlags(TcpFlags::RST));
    use Sender::{Opener, Responder};

    type Step = (Sender, Event);

    fn run(steps: &[Step]) -> State {
        steps.iter().fold(State::NEW, |state, &(sender, event)| match observe(state, sender, event) {
            Observed::Continues(next) => next,
            Observed::Restarts => panic!("restarted at {event:?}"),
        })
    }

    const HANDSHAKE: [Step; 3] = [(Opener, SYN), (Responder, SYN_ACK), (Opener, ACK)];

    fn secs(protocol: u8, state: State) -> u64 {
        Timeouts::DEFAULT.expiry_ns(0, protocol, state) / NS_PER_SEC
    }

    #[test]
    fn lifetimes_follow_the_handshake_and_the_close() {
        let cases: &[(&str, &[Step], u32)] = &[
            ("SYN", &HANDSHAKE[..1], Timeouts::DEFAULT.tcp_opening_secs),
            ("SYN, SYN-ACK", &HANDSHAKE[..2], Timeouts::DEFAULT.tcp_opening_secs),
            ("handshake", &HANDSHAKE, Timeouts::DEFAULT.tcp_established_secs),
            (
                "one FIN",
                &[HANDSHAKE[0], HANDSHAKE[1], HANDSHAKE[2], (Responder, FIN)],
                Timeouts::DEFAULT.tcp_half_closed_secs,
            ),
            (
                "both FIN",
                &[HANDSHAKE[0], HANDSHAKE[1], HANDSHAKE[2], (Opener, FIN), (Responder, FIN), (Opener, ACK)],
                Timeouts::DEFAULT.tcp_closed_secs,
            ),
            ("refused", &[(Opener, SYN), (Responder, RST)], Timeouts::DEFAULT.tcp_closed_secs),
            (
                "reset not accepted",
                &[HANDSHAKE[0], HANDSHAKE[1], HANDSHAKE[2], (Responder, RST), (Opener, ACK)],
                Timeouts::DEFAULT.tcp_established_secs,
            ),
        ];
        for (what, steps, expected) in cases {
            assert_eq!(secs(TCP, run(steps)), u64::from(*expected), "{what}");
        }
    }

    #[test]
    fn datagrams_live_longer_once_answered() {
        assert_eq!(secs(17, run(&[(Opener, Event::Datagram)])), 30);
        assert_eq!(secs(17, run(&[(Opener, Event::Datagram), (Responder, Event::Datagram)])), 180);
    }

    #[test]
    fn only_what_may_come_unasked_opens() {
        let opening = [SYN, Event::Datagram];
        let others = [SYN_ACK, ACK, FIN, RST, Event::Answer, Event::Fragment];
        assert!(opening.into_iter().all(Event::opens));
        assert!(!others.into_iter().any(Event::opens));
    }

    #[test]
    fn flow_is_settled_when_both_ends_are_known_to_be_there() {
        let datagram = |sender| (sender, Event::Datagram);
        let cases: [(&str, &[Step], bool, bool); 8] = [
            ("SYN", &HANDSHAKE[..1], false, false),
            ("SYN, SYN-ACK", &HANDSHAKE[..2], true, false),
            ("handshake", &HANDSHAKE, true, true),
            ("refused", &[(Opener, SYN), (Responder, RST)], false, false),
            ("question", &[datagram(Opener)], false, false),
            ("questions", &[datagram(Opener), datagram(Opener)], false, false),
            ("question, answer", &[datagram(Opener), datagram(Responder)], true, false),
            ("question, answer, question", &[datagram(Opener), datagram(Responder), datagram(Opener)], true, true),
        ];
        for (what, steps, from_node, from_outside) in cases {
            let state = run(steps);
            let settled = (state.is_settled(Origin::NODE), state.is_settled(Origin::OUTSIDE));
            assert_eq!(settled, (from_node, from_outside), "{what}");
        }
    }

    #[test]
    fn syn_on_a_closing_flow_starts_afresh() {
        let closed = run(&[(Opener, SYN), (Responder, RST)]);
        assert_eq!(observe(closed, Opener, SYN), Observed::Restarts);
        assert_eq!(observe(closed, Responder, SYN), Observed::Restarts);
        let open = run(&HANDSHAKE);
        assert_eq!(observe(open, Opener, SYN), Observed::Continues(open));
    }

    #[test]
    fn expiry_does_not_overflow() {
        assert_eq!(Timeouts::DEFAULT.expiry_ns(u64::MAX, TCP, State::NEW), u64::MAX);
    }

    proptest! {
        #[test]
        fn only_a_syn_restarts_and_only_a_closing_flow(bits in 0u8..32, opener: bool, flags: u8) {
            let sender = if opener { Opener } else { Responder };
            let observed = observe(State(bits), sender, Event::Segment(TcpFlags(flags)));
            let expected = TcpFlags(flags).opens() && State(bits).is_closing();
            prop_assert_eq!(observed == Observed::Restarts, expected);
        }

        #[test]
        fn what_is_settled_stays_so_until_it_restarts(bits in 0u8..32, opener: bool, flags: u8, outside: bool) {
            let sender = if opener { Opener } else { Responder };
            let origin = if outside { Origin::OUTSIDE } else { Origin::NODE };
            for event in [Event::Segment(TcpFlags(flags)), Event::Datagram, Event::Answer, Event::Fragment] {
                if let Observed::Continues(next) = observe(State(bits), sender, event) {
                    prop_assert!(next.is_settled(origin) || !State(bits).is_settled(origin));
                }
            }
        }

        #[test]
        fn a_fin_is_never_forgotten(bits in 0u8..32, opener: bool, flags: u8) {
            let sender = if opener { Opener } else { Responder };
            if let Observed::Continues(next) = observe(State(bits), sender, Event::Segment(TcpFlags(flags))) {
                let fins = State::OPENER_FIN | State::RESPONDER_FIN;
                prop_assert_eq!(next.0 & bits & fins, bits & fins);
            }
        }
    }
}
