//! What a sender who may have forged its address can do, and what honest ends can in spite of it.

use proptest::prelude::*;

use super::*;

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
        talk.forged(if origin == Origin::NODE { Responder } else { Initiator }, Event::segment(&guess));
        assert_eq!(talk.flow, before);
    }
}

/// A SYN from outside has the pod's stack acknowledge a number of its sender's choice. That proves nothing of the one whom the pod called.
#[test]
fn blind_reset_of_a_connection_that_is_being_opened_does_not_count() {
    let mut talk = Talk::tcp(Origin::NODE, [5, 6]);
    let chosen = 2_000_000_000_u32;
    talk.forged(Responder, Event::segment(&Segment { sequence: chosen, ..Segment::bare(SYN) }));
    let reply = Segment { sequence: 5, acknowledgement: chosen + 1, ..Segment::bare(SYN | ACK) };
    talk.hears(Initiator, reply);
    let before = talk.flow;
    for flags in [RST, RST | ACK, FIN | ACK] {
        let blind = Segment { sequence: chosen + 1, acknowledgement: 1 << 30, ..Segment::bare(flags) };
        talk.forged(Responder, Event::segment(&blind));
        assert_eq!(talk.flow, before, "{flags:#x}");
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
                    talk.forged(if as_initiator { Initiator } else { Responder }, Event::segment(&segment));
                    talk.forged(if as_initiator { Initiator } else { Responder }, Event::FRAGMENT);
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
                0 => talk.observe(origin.node_side(), Origin::NODE, Event::DATAGRAM),
                1 => talk.forged(Initiator, Event::DATAGRAM),
                2 => talk.forged(Responder, Event::DATAGRAM),
                3 => talk.forged(Responder, Event::REPLY),
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
        for event in [Event::segment(&segment), Event::DATAGRAM, Event::REPLY, Event::FRAGMENT] {
            let arrival = Arrival { sender, from, now_ns, is_awaited: false };
            if let Observed::Continues { seen: next, .. } = observe(seen, origin, &arrival, event) {
                prop_assert!(next.state.is_assured() || !seen.state.is_assured());
                let fins = State::INITIATOR_FIN | State::RESPONDER_FIN;
                prop_assert_eq!(next.state.0 & bits & fins, bits & fins, "a FIN is forgotten");
            }
        }
    }
}
