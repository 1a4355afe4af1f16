use std::vec;

use proptest::prelude::*;

use super::*;
use crate::family::Ipv4;
use crate::flow::{Flow, FlowKey, Nat, Path, Side, Tuple};

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
        self.observe(Initiator, self.flow.origin, Event::Segment(&opening));
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
        self.observe(sender, from, Event::Segment(&segment));
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
fn lifetimes_follow_the_handshake_and_the_close() {
    let open = Timeouts::DEFAULT.tcp_established_secs;
    let half_closed = Timeouts::DEFAULT.tcp_half_closed_secs;
    let closed = Timeouts::DEFAULT.tcp_closed_secs;
    let cases: &[(&str, &[Said], u32)] = &[
        ("SYN", &[], Timeouts::DEFAULT.tcp_half_open_secs),
        ("SYN, SYN-ACK", &HANDSHAKE[1..2], Timeouts::DEFAULT.tcp_half_open_secs),
        ("handshake", &HANDSHAKE[1..], open),
        ("one FIN", &[HANDSHAKE[1], HANDSHAKE[2], (Responder, FIN | ACK, 9)], half_closed),
        ("the other FIN", &[HANDSHAKE[1], HANDSHAKE[2], (Initiator, FIN | ACK, 9)], half_closed),
        (
            "both FIN",
            &[HANDSHAKE[1], HANDSHAKE[2], (Initiator, FIN | ACK, 0), (Responder, FIN | ACK, 0), (Initiator, ACK, 0)],
            closed,
        ),
        ("refused", &[(Responder, RST | ACK, 0)], closed),
        ("reset", &[HANDSHAKE[1], HANDSHAKE[2], (Responder, RST | ACK, 0)], closed),
        ("reset by the initiator", &[HANDSHAKE[1], HANDSHAKE[2], (Initiator, RST | ACK, 0)], closed),
        ("reset without ACK", &[HANDSHAKE[1], HANDSHAKE[2], (Responder, RST, 0)], closed),
        ("reset without ACK by the initiator", &[HANDSHAKE[1], HANDSHAKE[2], (Initiator, RST, 0)], closed),
    ];
    for ((what, said, expected), (origin, next)) in cases.iter().flat_map(|case| talks().map(move |talk| (case, talk)))
    {
        let mut talk = Talk::tcp(origin, next);
        said.iter().for_each(|said| talk.says(*said));
        assert_eq!(talk.secs(), u64::from(*expected), "{what}, {origin:?}, {next:?}");
    }
}

/// The node side goes on: it did not accept the reset. What comes from outside after a reset may be late.
#[test]
fn only_the_node_side_goes_on_after_a_reset() {
    for origin in ORIGINS {
        let mut talk = established(origin, [5, 6]);
        let (node_side, other) = if origin == Origin::NODE { (Initiator, Responder) } else { (Responder, Initiator) };
        talk.says((other, RST | ACK, 0));
        assert_eq!(talk.secs(), 10);
        talk.says((other, ACK, 100));
        assert_eq!(talk.secs(), 10, "a late one");
        talk.says((node_side, ACK, 0));
        assert_eq!(talk.secs(), 86_400);
    }
}

#[test]
fn only_what_may_come_unasked_opens() {
    let opening = [Event::Segment(&Segment::bare(SYN)), Event::Datagram];
    let others = [SYN | ACK, ACK, FIN | ACK, RST, RST | ACK].map(Segment::bare);
    assert!(opening.into_iter().all(Event::opens));
    assert!(!others.iter().map(Event::Segment).chain([Event::Reply, Event::Fragment]).any(Event::opens));
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
    let syn = Event::Segment(&Segment::bare(SYN));
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

/// A segment that no connection of the pod expects is replied to by a reset with a number that its sender chose.
#[test]
fn reset_that_a_forged_segment_asked_for_ends_nothing_and_teaches_no_number() {
    for origin in ORIGINS {
        let mut talk = Talk::tcp(origin, [5, 6]);
        if origin == Origin::OUTSIDE {
            talk.says(HANDSHAKE[1]);
        }
        let before = talk.flow;
        let chosen = 2_000_000_000;
        talk.hears(origin.node_side(), Segment { sequence: chosen, ..Segment::bare(RST) });
        assert_eq!(talk.flow, before);
        let guess = Segment { acknowledgement: chosen, ..Segment::bare(ACK) };
        talk.forged(if origin == Origin::NODE { Responder } else { Initiator }, Event::Segment(&guess));
        assert_eq!(talk.flow, before);
    }
}

/// Whoever asks for much and never acknowledges it holds an entry for minutes, and not for a day.
#[test]
fn connection_whose_other_end_acknowledges_nothing_lasts_for_minutes() {
    for origin in ORIGINS {
        let mut talk = Talk::tcp(origin, [5, 6]);
        HANDSHAKE[1..].iter().for_each(|said| talk.says(*said));
        let (node_side, other) = if origin == Origin::NODE { (Initiator, Responder) } else { (Responder, Initiator) };
        assert_eq!(talk.secs(), 86_400);
        talk.says((node_side, ACK, 1000));
        assert_eq!(talk.secs(), 86_400, "the other end was heard a moment ago");
        for pause in [1, 3, 100] {
            talk.now_ns += pause * SECOND;
            let again = Segment {
                sequence: talk.segment(node_side, ACK, 0).sequence.wrapping_sub(1000),
                ..talk.segment(node_side, ACK, 1000)
            };
            talk.hears(node_side, again);
            assert_eq!(talk.secs(), 300, "{pause} s later");
        }
        talk.now_ns += 2 * SECOND;
        talk.forged(other, Event::Segment(&Segment { acknowledgement: 1 << 30, ..Segment::bare(ACK) }));
        assert_eq!(talk.secs(), 298, "a guess proves nothing");
        talk.says((other, ACK, 0));
        assert_eq!(talk.secs(), 86_400, "it acknowledges all");
        talk.now_ns += 3600 * SECOND;
        talk.says((node_side, ACK, 0));
        assert_eq!(talk.secs(), 86_400, "what has no data asks for nothing");
    }
}

/// A SYN from outside has the pod's stack acknowledge a number of its sender's choice. That proves nothing of the one whom the pod called.
#[test]
fn blind_reset_of_a_connection_that_is_being_opened_does_not_count() {
    let mut talk = Talk::tcp(Origin::NODE, [5, 6]);
    let chosen = 2_000_000_000_u32;
    talk.forged(Responder, Event::Segment(&Segment { sequence: chosen, ..Segment::bare(SYN) }));
    let reply = Segment { sequence: 5, acknowledgement: chosen + 1, ..Segment::bare(SYN | ACK) };
    talk.hears(Initiator, reply);
    let before = talk.flow;
    for flags in [RST, RST | ACK, FIN | ACK] {
        let blind = Segment { sequence: chosen + 1, acknowledgement: 1 << 30, ..Segment::bare(flags) };
        talk.forged(Responder, Event::Segment(&blind));
        assert_eq!(talk.flow, before, "{flags:#x}");
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

#[test]
fn question_is_over_by_its_first_answer_however_many_are_forged() {
    for (port, renewed) in [(53, 4), (443, 30)] {
        let mut talk = Talk::new(UDP, Origin::NODE, port);
        talk.observe(Initiator, Origin::NODE, Event::Datagram);
        talk.observe(Responder, Origin::OUTSIDE, Event::Datagram);
        talk.now_ns += SECOND;
        talk.observe(Responder, Origin::OUTSIDE, Event::Datagram);
        assert_eq!(talk.secs(), renewed, "port {port}");
    }
}

#[test]
fn answers_from_outside_open_nothing() {
    let [dns, ntp, other, high] = [53, 123, 4500, 40_000].map(Be16::from_host);
    for (protocol, source, destination, may) in [
        (UDP, dns, high, false),
        (UDP, ntp, high, false),
        (UDP, high, dns, true),
        (UDP, ntp, ntp, true),
        (UDP, other, high, true),
        (1, Be16(0), dns, true),
        (TCP, dns, high, true),
    ] {
        assert_eq!(may_open_from_outside(protocol, source, destination), may, "{protocol} {source:?} {destination:?}");
    }
}

#[test]
fn datagrams_are_an_exchange_until_they_are_a_stream() {
    let cases = [
        // Protocol, origin, port; lives without a reply, with one, and as a stream; is a stream assured?
        ("to the Internet", UDP, Origin::NODE, 443, [30, 30, 180], true),
        ("DNS", UDP, Origin::NODE, 53, [5, 5, 180], true),
        ("NTP", UDP, Origin::NODE, 123, [5, 5, 180], true),
        ("echo", 1, Origin::NODE, 0, [30, 30, 180], true),
        ("from outside", UDP, Origin::OUTSIDE, 443, [30, 30, 180], false),
        ("to a pod's DNS", UDP, Origin::OUTSIDE, 53, [30, 30, 180], false),
    ];
    for (what, protocol, origin, port, [one_way, exchange, stream], is_assured) in cases {
        let (initiator, responder) =
            if origin == Origin::NODE { (Origin::NODE, Origin::OUTSIDE) } else { (Origin::OUTSIDE, Origin::NODE) };
        let mut talk = Talk::new(protocol, origin, port);
        for _ in 0..3 {
            talk.observe(Initiator, initiator, Event::Datagram);
            talk.now_ns += 3 * SECOND;
            talk.observe(Initiator, initiator, Event::Datagram);
        }
        assert_eq!((talk.secs(), talk.is_assured()), (one_way, false), "{what}, without a reply");

        let mut talk = Talk::new(protocol, origin, port);
        talk.now_ns += SECOND;
        talk.observe(Responder, responder, Event::Datagram);
        talk.observe(Initiator, initiator, Event::Datagram);
        assert_eq!((talk.secs(), talk.is_assured()), (exchange, false), "{what}, with a reply");

        talk.now_ns += SECOND + SECOND / 8;
        talk.observe(Responder, responder, Event::Datagram);
        assert!(!talk.is_assured(), "{what}: the responder shows nothing");
        talk.observe(Initiator, initiator, Event::Datagram);
        assert_eq!((talk.secs(), talk.is_assured()), (stream, is_assured), "{what}, as a stream");
    }
}

/// The kernel's clock has 63 bits (include/linux/ktime.h): 292 years.
#[test]
fn expiry_does_not_overflow_while_the_clock_does_not() {
    let key = FlowKey { low: Ipv4(1), high: Ipv4(2), low_port: Be16(1), high_port: Be16(2), protocol: u32::from(TCP) };
    let flow = Flow::new(&key, Side::LOW, Origin::NODE, Path::WIRE, Nat::KEEP, Seen::NEW);
    let last = i64::MAX as u64;
    assert_eq!(flow.renewal(Seen::NEW, false, |_| u32::MAX, last).0 - last, u64::from(u32::MAX) * NS_PER_SEC);
}

/// 100 MB, in segments as an interface cuts them or leaves them whole, are a write in 32 KiB at most, and both ends' close still counts.
#[test]
fn busy_flow_is_written_seldom_and_ends_by_its_numbers() {
    for (origin, next) in talks() {
        for length in [1448, 65_000] {
            let node_side = origin.node_side();
            let other = if node_side == Initiator { Responder } else { Initiator };
            let mut talk = established(origin, next);
            let mut writes = 0;
            for _ in 0..100_000_000 / length {
                for said in [(node_side, ACK, length), (other, ACK, 0)] {
                    let before = talk.flow;
                    talk.says(said);
                    writes += u32::from(talk.flow != before);
                }
            }
            assert!(writes <= 100_000_000 / 32_768, "{writes} of {length} bytes");
            talk.says((other, FIN | ACK, 0));
            talk.says((node_side, FIN | ACK, 0));
            assert_eq!(talk.secs(), 10, "{origin:?}, {next:?}");
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Honest(Said),
    /// The node side sends an earlier segment of these again: how far back, and bytes.
    Again(u32, u32),
    Forged(bool, Segment),
    Pass(u64),
}

fn flags() -> impl Strategy<Value = u8> {
    prop_oneof![4 => prop::sample::select(vec![ACK, SYN, SYN | ACK, FIN | ACK, RST, RST | ACK, FIN, 0]), 1 => any::<u8>()]
}

fn steps() -> impl Strategy<Value = Step> {
    let sender = prop::sample::select(vec![Initiator, Responder]);
    let honest = prop_oneof![6 => Just(ACK), 1 => Just(FIN | ACK), 1 => Just(RST | ACK)];
    let number = prop_oneof![any::<u32>(), (0u32..1 << 26).prop_map(|n| n.wrapping_sub(1 << 25))];
    prop_oneof![
        3 => (sender, honest, 0u32..70_000).prop_map(|(sender, flags, length)| Step::Honest((sender, flags, length))),
        1 => (0u32..200_000, 0u32..2000).prop_map(|(back, length)| Step::Again(back, length)),
        4 => (any::<bool>(), flags(), number.clone(), number, 0u32..3000).prop_map(
            |(as_initiator, flags, sequence, acknowledgement, length)| {
                Step::Forged(as_initiator, Segment { flags: TcpFlags(flags), sequence, acknowledgement, length })
            }
        ),
        1 => (0u64..70).prop_map(|secs| Step::Pass(secs * SECOND)),
    ]
}

/// Whether a sender that guesses has guessed right: one of the windows that `tcp` and `docs/nat.md` name holds its numbers.
fn is_lucky(flow: &Flow, segment: &Segment) -> bool {
    let from = |number: u32, first: i64, places: u32| number.wrapping_sub(first as u32) < places;
    let (sent_end, acked) = (i64::from(flow.numbers.sent_end), i64::from(flow.numbers.acked));
    let has = |bit| segment.flags.has(bit);
    let acknowledges = from(segment.acknowledgement, sent_end - 65_535, 1 << 16);
    let both = from(segment.acknowledgement, sent_end + 32_769 - (1 << 24), 1 << 24)
        && from(segment.sequence, acked - 65_536, 1 << 24);
    let is_next = flow.is_assured()
        && has(TcpFlags::RST)
        && !has(TcpFlags::ACK)
        && from(segment.sequence, acked - 32_768, 1 << 16);
    let has_no_proof_yet = !flow.is_assured() || !flow.state.has(State::ACKED);
    (has_no_proof_yet && acknowledges) || has(TcpFlags::ACK) && both || is_next
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    /// The promise: what a sender off the path sends, and does not guess right, is as if it were not sent. A guess is right once in
    /// 2^16 times: `tcp` has the arithmetic.
    #[test]
    fn off_path_segments_neither_promote_nor_end_nor_shorten(
        outside: bool,
        next: [u32; 2],
        handshake in 0usize..3,
        steps in prop::collection::vec(steps(), 1..60),
    ) {
        let origin = if outside { Origin::OUTSIDE } else { Origin::NODE };
        let mut talk = Talk::tcp(origin, next);
        HANDSHAKE[1..=handshake].iter().for_each(|said| talk.says(*said));
        for step in steps {
            match step {
                Step::Honest(said) => talk.says(said),
                Step::Again(back, length) => {
                    let sender = origin.node_side();
                    let mut again = talk.segment(sender, ACK, length);
                    again.sequence = again.sequence.wrapping_sub(back).wrapping_sub(length);
                    talk.hears(sender, again);
                }
                Step::Forged(as_initiator, segment) => {
                    // Numbers near the true ones, and any.
                    let mut segment = segment;
                    if segment.length % 2 == 0 {
                        segment.sequence = segment.sequence.wrapping_add(talk.flow.numbers.acked);
                        segment.acknowledgement = segment.acknowledgement.wrapping_add(talk.flow.numbers.sent_end);
                    }
                    // A flow that is over may be opened by anybody.
                    let reopens = segment.flags.opens() && talk.flow.state.is_closed();
                    if reopens || is_lucky(&talk.flow, &segment) {
                        continue;
                    }
                    let before = talk;
                    talk.forged(if as_initiator { Initiator } else { Responder }, Event::Segment(&segment));
                    talk.forged(if as_initiator { Initiator } else { Responder }, Event::Fragment);
                    prop_assert_eq!(talk.flow, before.flow, "{:?} counts", segment);
                    prop_assert!(!talk.has_restarted, "{:?} restarts", segment);
                }
                Step::Pass(ns) => talk.now_ns += ns,
            }
        }
    }

    /// Forged datagrams: both ends, any order. They assure nothing, end nothing, and shorten nothing.
    #[test]
    fn off_path_datagrams_neither_promote_nor_end_nor_shorten(
        outside: bool,
        port in prop::sample::select(vec![53u16, 443]),
        steps in prop::collection::vec((0u8..5, 0u64..4), 1..60),
    ) {
        let origin = if outside { Origin::OUTSIDE } else { Origin::NODE };
        let mut talk = Talk::new(UDP, origin, port);
        for (what, secs) in steps {
            let before = talk.flow;
            match what {
                0 => talk.observe(origin.node_side(), Origin::NODE, Event::Datagram),
                1 => talk.forged(Initiator, Event::Datagram),
                2 => talk.forged(Responder, Event::Datagram),
                3 => talk.forged(Responder, Event::Reply),
                _ => talk.now_ns += secs * SECOND,
            }
            let is_forged = (1..4).contains(&what);
            prop_assert!(talk.flow.expires_ns >= before.expires_ns && !talk.has_restarted);
            prop_assert!(!is_forged || before.is_assured() || !talk.is_assured(), "assured by a forged one");
            prop_assert!(origin == Origin::NODE || !talk.is_assured(), "nothing shows that the initiator is there");
        }
    }

    /// Whatever was sent again, lost on its way to us or written late: two honest ends are assured and end.
    #[test]
    fn honest_connection_is_assured_and_ends(
        outside: bool,
        next: [u32; 2],
        steps in prop::collection::vec(steps(), 0..40),
        node_side_closes_first: bool,
        by_reset: bool,
    ) {
        let origin = if outside { Origin::OUTSIDE } else { Origin::NODE };
        let mut talk = established(origin, next);
        for step in steps {
            match step {
                Step::Honest((sender, _, length)) => talk.says((sender, ACK, length)),
                Step::Pass(ns) => talk.now_ns += ns,
                Step::Again(..) | Step::Forged(..) => {}
            }
        }
        prop_assert!(talk.is_assured());
        let node_side = origin.node_side();
        let other = if node_side == Initiator { Responder } else { Initiator };
        if by_reset {
            // In flight: the node side has acknowledged none of it.
            talk.says((other, ACK, 3_000_000));
            talk.says((other, RST | ACK, 0));
        } else {
            let [first, second] = if node_side_closes_first { [node_side, other] } else { [other, node_side] };
            talk.says((first, FIN | ACK, 100));
            talk.says((second, FIN | ACK, 100));
        }
        prop_assert_eq!(talk.secs(), 10);
    }

    #[test]
    fn what_is_assured_stays_so_until_it_restarts(
        bits: u8, initiator: bool, flags: u8, from_outside: bool, outside: bool, numbers: [u32; 4], now_ns: u64,
    ) {
        let sender = if initiator { Initiator } else { Responder };
        let [origin, from] = [outside, from_outside].map(|is| if is { Origin::OUTSIDE } else { Origin::NODE });
        let [sequence, acknowledgement, sent_end, acked] = numbers;
        let seen = Seen { state: State(bits), numbers: NodeNumbers { sent_end, acked } };
        let segment = Segment { flags: TcpFlags(flags), sequence, acknowledgement, length: 0 };
        for event in [Event::Segment(&segment), Event::Datagram, Event::Reply, Event::Fragment] {
            let arrival = Arrival { sender, from, now_ns, is_awaited: false };
            if let Observed::Continues { seen: next, .. } = observe(seen, origin, &arrival, event) {
                prop_assert!(next.state.is_assured() || !seen.state.is_assured());
                let fins = State::INITIATOR_FIN | State::RESPONDER_FIN;
                prop_assert_eq!(next.state.0 & bits & fins, bits & fins, "a FIN is forgotten");
            }
        }
    }
}
