use proptest::prelude::*;

use super::*;

const SYN: Event = Event::Segment(TcpFlags(TcpFlags::SYN));
const SYN_ACK: Event = Event::Segment(TcpFlags(TcpFlags::SYN | TcpFlags::ACK));
const ACK: Event = Event::Segment(TcpFlags(TcpFlags::ACK));
const FIN: Event = Event::Segment(TcpFlags(TcpFlags::FIN | TcpFlags::ACK));
const RST: Event = Event::Segment(TcpFlags(TcpFlags::RST));
use Sender::{Initiator, Responder};

type Step = (Sender, Event);

fn run(steps: &[Step]) -> State {
    steps.iter().fold(State::NEW, |state, &(sender, event)| match observe(state, sender, event) {
        Observed::Continues(next) => next,
        Observed::Restarts => panic!("restarted at {event:?}"),
    })
}

const HANDSHAKE: [Step; 3] = [(Initiator, SYN), (Responder, SYN_ACK), (Initiator, ACK)];

fn secs(protocol: u8, state: State) -> u64 {
    Timeouts::DEFAULT.expiry_ns(0, protocol, state) / NS_PER_SEC
}

#[test]
fn lifetimes_follow_the_handshake_and_the_close() {
    let cases: &[(&str, &[Step], u32)] = &[
        ("SYN", &HANDSHAKE[..1], Timeouts::DEFAULT.tcp_half_open_secs),
        ("SYN, SYN-ACK", &HANDSHAKE[..2], Timeouts::DEFAULT.tcp_half_open_secs),
        ("handshake", &HANDSHAKE, Timeouts::DEFAULT.tcp_established_secs),
        (
            "one FIN",
            &[HANDSHAKE[0], HANDSHAKE[1], HANDSHAKE[2], (Responder, FIN)],
            Timeouts::DEFAULT.tcp_half_closed_secs,
        ),
        (
            "both FIN",
            &[HANDSHAKE[0], HANDSHAKE[1], HANDSHAKE[2], (Initiator, FIN), (Responder, FIN), (Initiator, ACK)],
            Timeouts::DEFAULT.tcp_closed_secs,
        ),
        ("refused", &[(Initiator, SYN), (Responder, RST)], Timeouts::DEFAULT.tcp_closed_secs),
        (
            "reset not accepted",
            &[HANDSHAKE[0], HANDSHAKE[1], HANDSHAKE[2], (Responder, RST), (Initiator, ACK)],
            Timeouts::DEFAULT.tcp_established_secs,
        ),
    ];
    for (what, steps, expected) in cases {
        assert_eq!(secs(TCP, run(steps)), u64::from(*expected), "{what}");
    }
}

#[test]
fn datagrams_live_longer_once_answered() {
    assert_eq!(secs(17, run(&[(Initiator, Event::Datagram)])), 30);
    assert_eq!(secs(17, run(&[(Initiator, Event::Datagram), (Responder, Event::Datagram)])), 180);
}

#[test]
fn only_what_may_come_unasked_opens() {
    let opening = [SYN, Event::Datagram];
    let others = [SYN_ACK, ACK, FIN, RST, Event::Reply, Event::Fragment];
    assert!(opening.into_iter().all(Event::opens));
    assert!(!others.into_iter().any(Event::opens));
}

#[test]
fn flow_is_assured_when_both_ends_are_known_to_be_there() {
    let datagram = |sender| (sender, Event::Datagram);
    let cases: [(&str, &[Step], bool, bool); 8] = [
        ("SYN", &HANDSHAKE[..1], false, false),
        ("SYN, SYN-ACK", &HANDSHAKE[..2], true, false),
        ("handshake", &HANDSHAKE, true, true),
        ("refused", &[(Initiator, SYN), (Responder, RST)], false, false),
        ("question", &[datagram(Initiator)], false, false),
        ("questions", &[datagram(Initiator), datagram(Initiator)], false, false),
        ("question, reply", &[datagram(Initiator), datagram(Responder)], true, false),
        ("question, reply, question", &[datagram(Initiator), datagram(Responder), datagram(Initiator)], true, true),
    ];
    for (what, steps, from_node, from_outside) in cases {
        let state = run(steps);
        let assured = (state.is_assured(Origin::NODE), state.is_assured(Origin::OUTSIDE));
        assert_eq!(assured, (from_node, from_outside), "{what}");
    }
}

#[test]
fn syn_on_a_closing_flow_starts_afresh() {
    let closed = run(&[(Initiator, SYN), (Responder, RST)]);
    assert_eq!(observe(closed, Initiator, SYN), Observed::Restarts);
    assert_eq!(observe(closed, Responder, SYN), Observed::Restarts);
    let open = run(&HANDSHAKE);
    assert_eq!(observe(open, Initiator, SYN), Observed::Continues(open));
}

#[test]
fn expiry_does_not_overflow() {
    assert_eq!(Timeouts::DEFAULT.expiry_ns(u64::MAX, TCP, State::NEW), u64::MAX);
}

proptest! {
    #[test]
    fn only_a_syn_restarts_and_only_a_closing_flow(bits in 0u8..32, initiator: bool, flags: u8) {
        let sender = if initiator { Initiator } else { Responder };
        let observed = observe(State(bits), sender, Event::Segment(TcpFlags(flags)));
        let expected = TcpFlags(flags).opens() && State(bits).is_closing();
        prop_assert_eq!(observed == Observed::Restarts, expected);
    }

    #[test]
    fn what_is_assured_stays_so_until_it_restarts(bits in 0u8..32, initiator: bool, flags: u8, outside: bool) {
        let sender = if initiator { Initiator } else { Responder };
        let origin = if outside { Origin::OUTSIDE } else { Origin::NODE };
        for event in [Event::Segment(TcpFlags(flags)), Event::Datagram, Event::Reply, Event::Fragment] {
            if let Observed::Continues(next) = observe(State(bits), sender, event) {
                prop_assert!(next.is_assured(origin) || !State(bits).is_assured(origin));
            }
        }
    }

    #[test]
    fn a_fin_is_never_forgotten(bits in 0u8..32, initiator: bool, flags: u8) {
        let sender = if initiator { Initiator } else { Responder };
        if let Observed::Continues(next) = observe(State(bits), sender, Event::Segment(TcpFlags(flags))) {
            let fins = State::INITIATOR_FIN | State::RESPONDER_FIN;
            prop_assert_eq!(next.0 & bits & fins, bits & fins);
        }
    }
}
