//! Flows that are not assured are kept apart: a flood of them turns over their own tables and nothing else.

use std::net::Ipv4Addr;

use bpf_tests::Promise::{ToPod, ToWire};
use bpf_tests::{Frame, Rig, Verdict, tuple};

type End = (Ipv4Addr, u16);

const A: End = (Rig::POD_A, 20_000);
const NODE: End = (Rig::NODE, 20_000);
const INTERNET: End = (Rig::INTERNET, 443);
const PEER: End = (Rig::PEER, 80);
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Entries of the tables of half-open flows of these tests.
const MAX_HALF_OPEN: u32 = 64;
const ASSURED: std::ops::Range<u16> = 21_000..21_020;

fn small() -> Rig {
    Rig::with_tables(Rig::constants(), 1024, MAX_HALF_OPEN)
}

/// Handshakes of the assured flows, to the Internet and from the VNet to the pod. Datagrams from outside are never assured.
fn talk(rig: &Rig, what: &str) {
    for port in ASSURED {
        let (pod, node) = ((Rig::POD_A, port), (Rig::NODE, port));
        for (flags, from_pod) in [("S", true), ("SA", false), ("A", true)] {
            if from_pod {
                let out = ToWire(Frame::tcp(node, INTERNET, flags).one_hop_on());
                rig.from_pod_a(&Frame::tcp(pod, INTERNET, flags)).keeps(what, &out);
            } else {
                let back = ToPod(Frame::tcp(INTERNET, pod, flags).one_hop_on());
                rig.from_wire(&Frame::tcp(INTERNET, node, flags)).keeps(what, &back);
            }
        }
        let (initiator, server) = ((Rig::PEER, port), (Rig::POD_A, 53));
        for (flags, from_outside) in [("S", true), ("SA", false), ("A", true)] {
            if from_outside {
                let inbound = Frame::tcp(initiator, server, flags);
                rig.from_wire(&inbound).keeps(what, &ToPod(inbound.clone().one_hop_on()));
            } else {
                let reply = Frame::tcp(server, initiator, flags);
                rig.from_pod_a(&reply).keeps(what, &ToWire(reply.clone().one_hop_on()));
            }
        }
    }
}

fn assured_count(rig: &Rig) -> (usize, usize) {
    (rig.flows()[0].keys().count(), rig.translations()[0].keys().count())
}

/// First packets from all sides; none gets a reply.
fn flood(rig: &Rig) {
    for index in 0..20 * MAX_HALF_OPEN as u16 {
        let forged = (Ipv4Addr::from(0xc633_6400 + u32::from(index)), 1024 + index);
        let inbound = Frame::tcp(forged, (Rig::POD_A, 80), "S");
        assert_eq!(rig.from_wire(&inbound).verdict, Verdict::ToPod, "from outside, {index}");
        let scan = Frame::udp((Rig::POD_B, 1024 + index), (Ipv4Addr::new(203, 0, 113, 1), index));
        assert_eq!(rig.from_pod_b(&scan).verdict, Verdict::ToWire, "a pod's, {index}");
    }
}

#[test]
fn flood_of_new_flows_ends_no_assured_one_and_is_not_refused_itself() {
    let rig = small();
    talk(&rig, "before");
    let before = assured_count(&rig);
    assert_eq!(before, (2 * ASSURED.len(), ASSURED.len()));
    flood(&rig);
    assert_eq!(assured_count(&rig), before, "something of the flood was promoted, or an assured flow is gone");
    let half_open = rig.flows()[1].keys().count().max(rig.translations()[1].keys().count());
    assert!((1..=MAX_HALF_OPEN as usize).contains(&half_open), "{half_open} half-open");
    talk(&rig, "after");
    assert_eq!(assured_count(&rig), before);
}

/// The backscatter of a forged flood: the pod replies to each SYN, and no initiator goes on.
#[test]
fn flow_from_outside_that_is_only_answered_does_not_promote() {
    let rig = small();
    talk(&rig, "before");
    let before = assured_count(&rig);
    for index in 0..10 * MAX_HALF_OPEN as u16 {
        let forged = (Ipv4Addr::from(0xc633_6400 + u32::from(index)), 1024 + index);
        assert_eq!(rig.from_wire(&Frame::tcp(forged, (Rig::POD_A, 80), "S")).verdict, Verdict::ToPod);
        let reply = Frame::tcp((Rig::POD_A, 80), forged, "SA");
        rig.from_pod_a(&reply).keeps("with the pod's address", &ToWire(reply.clone().one_hop_on()));
    }
    assert_eq!(assured_count(&rig), before);
    talk(&rig, "after");
}

#[test]
fn flow_of_a_pod_is_promoted_by_its_reply() {
    let rig = Rig::new();
    let steps = [("S", true, false), ("S", true, false), ("SA", false, true), ("A", true, true), ("FA", false, true)];
    for (flags, from_pod, is_assured) in steps {
        let outcome = match from_pod {
            true => rig.from_pod_a(&Frame::tcp(A, INTERNET, flags)),
            false => rig.from_wire(&Frame::tcp(INTERNET, NODE, flags)),
        };
        assert!(matches!(outcome.verdict, Verdict::ToWire | Verdict::ToPod), "{flags}: {:?}", outcome.drops);
        assert_eq!(rig.is_established(&tuple(A, INTERNET, TCP)), is_assured, "{flags}");
        let held = rig.translations().map(|translations| translations.keys().count());
        assert_eq!(held, if is_assured { [1, 0] } else { [0, 1] }, "{flags}: where its port is held");
        assert_eq!(rig.flow_count(), 1, "{flags}: one connection, one entry");
    }
}

#[test]
fn flow_from_outside_is_promoted_when_its_initiator_goes_on_after_the_reply() {
    let rig = Rig::new();
    for (protocol, steps) in [
        (TCP, [("S", true, false), ("S", true, false), ("SA", false, false), ("S", true, false), ("A", true, true)]),
        // Nothing in a datagram shows that its sender has received the reply.
        (UDP, [("", true, false), ("", true, false), ("", false, false), ("", false, false), ("", true, false)]),
    ] {
        for (flags, from_outside, is_assured) in steps {
            let (from, to) = if from_outside { (PEER, A) } else { (A, PEER) };
            let packet = if protocol == TCP { Frame::tcp(from, to, flags) } else { Frame::udp(from, to) };
            let outcome = if from_outside { rig.from_wire(&packet) } else { rig.from_pod_a(&packet) };
            assert!(matches!(outcome.verdict, Verdict::ToWire | Verdict::ToPod), "{flags}: {:?}", outcome.drops);
            assert_eq!(rig.is_established(&tuple(PEER, A, protocol)), is_assured, "protocol {protocol}, {flags}");
        }
    }
    assert_eq!(rig.flow_count(), 2, "one connection, one entry");
}

#[test]
fn one_way_flow_stays_among_the_half_open_ones_however_long_it_goes_on() {
    let rig = Rig::new();
    for _ in 0..10 {
        assert_eq!(rig.from_pod_a(&Frame::udp(A, INTERNET)).verdict, Verdict::ToWire);
        assert_eq!(rig.from_wire(&Frame::udp(PEER, A)).verdict, Verdict::ToPod);
    }
    assert_eq!(assured_count(&rig), (0, 0));
    assert_eq!((rig.flow_count(), rig.translation_count()), (2, 1));
}
