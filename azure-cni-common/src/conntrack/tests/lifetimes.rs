//! How long a flow lives after what was seen of it.

use super::*;

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
        talk.forged(other, Event::segment(&Segment { acknowledgement: 1 << 30, ..Segment::bare(ACK) }));
        assert_eq!(talk.secs(), 298, "a guess proves nothing");
        talk.says((other, ACK, 0));
        assert_eq!(talk.secs(), 86_400, "it acknowledges all");
        talk.now_ns += 3600 * SECOND;
        talk.says((node_side, ACK, 0));
        assert_eq!(talk.secs(), 86_400, "what has no data asks for nothing");
    }
}

#[test]
fn question_is_over_by_its_first_answer_however_many_are_forged() {
    for (port, renewed) in [(53, 4), (443, 30)] {
        let mut talk = Talk::new(UDP, Origin::NODE, port);
        talk.observe(Initiator, Origin::NODE, Event::DATAGRAM);
        talk.observe(Responder, Origin::OUTSIDE, Event::DATAGRAM);
        talk.now_ns += SECOND;
        talk.observe(Responder, Origin::OUTSIDE, Event::DATAGRAM);
        assert_eq!(talk.secs(), renewed, "port {port}");
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
            talk.observe(Initiator, initiator, Event::DATAGRAM);
            talk.now_ns += 3 * SECOND;
            talk.observe(Initiator, initiator, Event::DATAGRAM);
        }
        assert_eq!((talk.secs(), talk.is_assured()), (one_way, false), "{what}, without a reply");

        let mut talk = Talk::new(protocol, origin, port);
        talk.now_ns += SECOND;
        talk.observe(Responder, responder, Event::DATAGRAM);
        talk.observe(Initiator, initiator, Event::DATAGRAM);
        assert_eq!((talk.secs(), talk.is_assured()), (exchange, false), "{what}, with a reply");

        talk.now_ns += SECOND + SECOND / 8;
        talk.observe(Responder, responder, Event::DATAGRAM);
        assert!(!talk.is_assured(), "{what}: the responder shows nothing");
        talk.observe(Initiator, initiator, Event::DATAGRAM);
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
