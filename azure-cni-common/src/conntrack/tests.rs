//! The state machine, driven by two ends that talk.

mod forged;
mod lifetimes;

use std::vec;

use super::*;
use crate::family::{Ipv4, TCP};
use crate::flow::{Flow, FlowKey, Nat, Path, Side, Tuple};
use crate::lifetime::{NS_PER_SEC, Timeouts};

const SYN: u8 = TcpFlags::SYN;
const ACK: u8 = TcpFlags::ACK;
const FIN: u8 = TcpFlags::FIN;
const RST: u8 = TcpFlags::RST;
const SECOND: u64 = NS_PER_SEC;

/// A flow as a table has it, and its ends as they are: what is sent is what they would send.
#[derive(Clone, Copy, Debug)]
struct Talk {
    flow: Flow,
    now_ns: u64,
    /// The next number of the initiator and of the responder.
    next: [u32; 2],
    has_restarted: bool,
}

/// A segment by who sends it, flags and bytes.
type Said = (Sender, u8, u32);
use Sender::{Initiator, Responder};

const HANDSHAKE: [Said; 3] = [(Initiator, SYN, 0), (Responder, SYN | ACK, 0), (Initiator, ACK, 0)];

impl Talk {
    /// Opened by the initiator's SYN.
    fn tcp(origin: Origin, next: [u32; 2]) -> Self {
        let mut talk = Self::new(TCP, origin, 443);
        talk.next = next;
        talk.begin(talk.segment(Initiator, SYN, 0));
        talk.next[0] = talk.next[0].wrapping_add(1);
        talk
    }

    fn new(protocol: u8, origin: Origin, port: u16) -> Self {
        let tuple = Tuple {
            source: Ipv4(1),
            destination: Ipv4(2),
            source_port: Be16::from_host(40_000),
            destination_port: Be16::from_host(port),
            protocol,
        };
        let now_ns = 1 << 40;
        let seen = if protocol == TCP { Seen::NEW } else { Seen::datagram(State::NEW, now_ns) };
        let (key, initiator) = FlowKey::of(&tuple);
        let mut flow = Flow::new(&key, initiator, origin, Path::WIRE, Nat::KEEP, seen);
        flow.expires_ns = flow.renewal(seen, false, |timeout| Timeouts::DEFAULT.secs(timeout), now_ns).0;
        Self { flow, now_ns, next: [0, 0], has_restarted: false }
    }

    fn begin(&mut self, opening: Segment) {
        self.observe(Initiator, self.flow.origin, Event::segment(&opening));
    }

    fn segment(&self, sender: Sender, flags: u8, length: u32) -> Segment {
        let [own, other] = if sender == Initiator { self.next } else { [self.next[1], self.next[0]] };
        let acknowledgement = if flags & ACK != 0 { other } else { 0 };
        Segment { flags: TcpFlags(flags), sequence: own, acknowledgement, length }
    }

    /// An end sends what is next.
    fn says(&mut self, (sender, flags, length): Said) {
        let segment = self.segment(sender, flags, length);
        self.hears(sender, segment);
        let next = &mut self.next[if sender == Initiator { 0 } else { 1 }];
        *next = next.wrapping_add(length + u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0));
    }

    fn hears(&mut self, sender: Sender, segment: Segment) {
        let node_side = self.flow.origin.node_side();
        let from = if sender == node_side { Origin::NODE } else { Origin::OUTSIDE };
        self.observe(sender, from, Event::segment(&segment));
    }

    /// A sender outside who may have forged its address, as either end.
    fn forged(&mut self, sender: Sender, event: Event) {
        self.observe(sender, Origin::OUTSIDE, event);
    }

    fn observe(&mut self, sender: Sender, from: Origin, event: Event) {
        let side = if sender == Initiator { self.flow.initiator } else { self.flow.initiator.other() };
        match self.flow.observe(side, from, event, self.now_ns) {
            Observed::Nothing => {}
            Observed::Restarts => self.has_restarted = true,
            Observed::Continues { seen, is_owed } => {
                let (expires_ns, is_worth_writing) =
                    self.flow.renewal(seen, is_owed, |timeout| Timeouts::DEFAULT.secs(timeout), self.now_ns);
                if is_worth_writing {
                    self.flow = Flow { state: seen.state, numbers: seen.numbers, expires_ns, ..self.flow };
                }
            }
        }
    }

    fn secs(&self) -> u64 {
        (self.flow.expires_ns - self.now_ns) / SECOND
    }

    fn is_assured(&self) -> bool {
        self.flow.is_assured()
    }
}

fn established(origin: Origin, next: [u32; 2]) -> Talk {
    let mut talk = Talk::tcp(origin, next);
    HANDSHAKE[1..].iter().for_each(|said| talk.says(*said));
    assert!(talk.is_assured(), "{talk:?}");
    talk
}

const ORIGINS: [Origin; 2] = [Origin::NODE, Origin::OUTSIDE];
/// About to wrap, and not.
const STARTS: [[u32; 2]; 3] = [[u32::MAX, 7], [1 << 31, u32::MAX - 1], [0, 0]];

fn talks() -> impl Iterator<Item = (Origin, [u32; 2])> {
    ORIGINS.into_iter().flat_map(|origin| STARTS.map(|next| (origin, next)))
}

#[test]
fn only_what_may_come_unasked_opens() {
    let syn = Segment::bare(SYN);
    let opening = [Event::segment(&syn), Event::DATAGRAM];
    let others = [SYN | ACK, ACK, FIN | ACK, RST, RST | ACK].map(Segment::bare);
    assert!(opening.into_iter().all(Event::opens));
    assert!(!others.iter().map(Event::segment).chain([Event::REPLY, Event::FRAGMENT]).any(Event::opens));
}

#[test]
fn flow_is_assured_when_both_ends_are_known_to_be_there() {
    let cases: [(&str, &[Said], bool, bool); 4] = [
        ("SYN", &[], false, false),
        ("SYN, SYN-ACK", &HANDSHAKE[1..2], true, false),
        ("handshake", &HANDSHAKE[1..], true, true),
        ("refused", &[(Responder, RST | ACK, 0)], false, false),
    ];
    for (what, said, from_node, from_outside) in cases {
        for (origin, next) in talks() {
            let mut talk = Talk::tcp(origin, next);
            said.iter().for_each(|said| talk.says(*said));
            let expected = if origin == Origin::NODE { from_node } else { from_outside };
            assert_eq!(talk.is_assured(), expected, "{what}, {origin:?}, {next:?}");
        }
    }
}

/// RFC 7413: data with the SYN, and behind the SYN-ACK before anything was acknowledged. RFC 9293 section 3.5: both ends send a SYN.
#[test]
fn unusual_handshakes_are_assured() {
    for (origin, next) in talks() {
        let mut fast = Talk::new(TCP, origin, 443);
        fast.next = next;
        for said in [(Initiator, SYN, 1400), (Responder, SYN | ACK, 0), (Responder, ACK, 14_600), (Initiator, ACK, 0)] {
            fast.says(said);
        }
        assert!(fast.is_assured(), "fast open, {origin:?}");

        let mut repeated = Talk::tcp(origin, next);
        let syn_ack = repeated.segment(Responder, SYN | ACK, 0);
        repeated.says((Responder, SYN | ACK, 0));
        repeated.hears(Responder, syn_ack);
        repeated.says((Initiator, ACK, 0));
        assert!(repeated.is_assured(), "SYN-ACK twice, {origin:?}");
    }
    let mut both = Talk::tcp(Origin::NODE, [70, 900_000_000]);
    both.says((Responder, SYN, 0));
    let [own, other] = [70, 900_000_001];
    for sender in [Initiator, Responder] {
        let (sequence, acknowledgement) = if sender == Initiator { (own, other) } else { (other - 1, own + 1) };
        both.hears(sender, Segment { sequence, acknowledgement, ..Segment::bare(SYN | ACK) });
    }
    assert!(both.is_assured(), "{both:?}");
}

/// A pod that was killed opens the same ports again, and its peer refuses: the numbers of the earlier connection do not count.
#[test]
fn new_connection_on_a_live_entry_ends_by_its_own_numbers() {
    for (start, theirs) in [(1_000_000_000, 3_000_000_000), (8, 90), (100_000, 0)] {
        let mut talk = established(Origin::NODE, [5, 6]);
        talk.next = [start, theirs];
        talk.says((Initiator, SYN, 0));
        let refusal = Segment { acknowledgement: start + 1, ..Segment::bare(RST | ACK) };
        talk.hears(Responder, refusal);
        assert_eq!(talk.secs(), 10, "from {start}");
    }
}

#[test]
fn syn_starts_afresh_where_the_flow_is_over() {
    let syn = Segment::bare(SYN);
    let syn = Event::segment(&syn);
    let cases: [(&str, &[Said], bool, bool); 6] = [
        ("half-open", &[], false, false),
        ("open", &HANDSHAKE[1..], false, false),
        ("one FIN", &[HANDSHAKE[1], HANDSHAKE[2], (Initiator, FIN | ACK, 0)], true, false),
        ("the other FIN", &[HANDSHAKE[1], HANDSHAKE[2], (Responder, FIN | ACK, 0)], true, false),
        ("closed", &[HANDSHAKE[1], HANDSHAKE[2], (Initiator, FIN | ACK, 0), (Responder, FIN | ACK, 0)], true, true),
        ("refused", &[(Responder, RST | ACK, 0)], true, true),
    ];
    for (what, said, by_node, by_outside) in cases {
        for origin in ORIGINS {
            let mut talk = Talk::tcp(origin, [5, 6]);
            said.iter().for_each(|said| talk.says(*said));
            let (node_side, other) =
                if origin == Origin::NODE { (Initiator, Responder) } else { (Responder, Initiator) };
            // Nothing shows that the opener is there: the node side's own SYN is no answer to it.
            let by_node = by_node || (what == "half-open" && origin == Origin::OUTSIDE);
            for (sender, from, expected) in [(node_side, Origin::NODE, by_node), (other, Origin::OUTSIDE, by_outside)] {
                let mut talk = talk;
                talk.observe(sender, from, syn);
                assert_eq!(talk.has_restarted, expected, "{what}, {origin:?}, SYN from {from:?}");
            }
        }
    }
}

/// It has the number that the other end's last segment acknowledged, which may be far behind what was sent.
#[test]
fn reset_of_an_end_that_is_gone_ends_a_connection_by_any_number() {
    for origin in ORIGINS {
        let mut talk = Talk::tcp(origin, [5, 6]);
        HANDSHAKE[1..].iter().for_each(|said| talk.says(*said));
        talk.says((origin.node_side(), ACK, 60_000));
        talk.says((origin.node_side(), ACK, 60_000));
        talk.hears(origin.node_side(), Segment { sequence: 6, ..Segment::bare(RST) });
        assert_eq!(talk.secs(), 10);
    }
}
