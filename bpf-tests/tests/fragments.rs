//! Later fragments follow their packet's first. Expected fragments are cut from the packet that is expected as a whole.

use std::net::{IpAddr, Ipv4Addr};

use azure_cni_common::drop_reason::DropReason::FragmentNotTranslated;
use azure_cni_common::fragments::FragmentPorts;
use azure_cni_datapath::Hook;
use bpf_tests::Promise::{Dropped, Passes, ToPod, ToWire, Untouched};
use bpf_tests::{Frame, Offload, Outcome, Rig, Verdict, now_ns};

type End = (IpAddr, u16);

const V4: [End; 4] = [
    (IpAddr::V4(Rig::POD_A), 20_000),
    (IpAddr::V4(Rig::NODE), 20_000),
    (IpAddr::V4(Rig::INTERNET), 443),
    (IpAddr::V4(Rig::PEER), 80),
];
const V6: [End; 4] = [
    (IpAddr::V6(Rig::POD_A6), 20_000),
    (IpAddr::V6(Rig::NODE6), 20_000),
    (IpAddr::V6(Rig::INTERNET6), 443),
    (IpAddr::V6(Rig::PEER6), 80),
];
const ID: u16 = 0x1234;
/// How often a fragment is put back into its queue.
const MOST_WAITS: u32 = 8;

/// A datagram of 1,208 bytes behind the IP header, in two.
fn in_two(from: End, to: End) -> [Frame; 2] {
    let payload: Vec<u8> = (0..1200).map(|index| (index * 7) as u8).collect();
    Frame::udp_with_payload(from, to, &payload).in_two(800, ID)
}

fn on(frames: [Frame; 2]) -> [Frame; 2] {
    frames.map(Frame::one_hop_on)
}

fn with_mark(rig: &Rig, hook: Hook, interface: &str, frame: &Frame, mark: u32) -> Outcome {
    rig.run(hook, interface, frame, Offload { mark, ..Offload::default() })
}

#[test]
fn fragments_of_a_packet_are_translated_both_ways() {
    let rig = Rig::new();
    for [pod, node, internet, _] in [V4, V6] {
        for (sent, expected) in in_two(pod, internet).iter().zip(on(in_two(node, internet))) {
            rig.from_pod_a(sent).keeps("question", &ToWire(expected));
        }
        for (sent, expected) in in_two(internet, node).iter().zip(on(in_two(internet, pod))) {
            rig.from_wire(sent).keeps("reply", &ToPod(expected));
        }
    }
}

#[test]
fn fragments_of_every_transport_are_translated() {
    let rig = Rig::new();
    for [pod, node, internet, _] in [V4, V6] {
        let kinds: [fn(End, End) -> Frame; 3] = [
            |from, to| Frame::tcp(from, to, "S"),
            |from, to| Frame::echo_request(from.0, to.0, from.1),
            |from, to| Frame::portless(from.0, to.0, 50),
        ];
        for (index, kind) in kinds.into_iter().enumerate() {
            let id = ID + index as u16;
            let length = if index == 0 { 24 } else { 8 };
            let (sent, expected) = (kind(pod, internet).in_two(length, id), kind(node, internet).in_two(length, id));
            for (sent, expected) in sent.iter().zip(on(expected)) {
                rig.from_pod_a(sent).keeps(&format!("kind {index}"), &ToWire(expected));
            }
        }
    }
}

#[test]
fn fragments_through_the_stack_are_translated_at_the_wire() {
    let rig = Rig::with_services_unknown();
    for [pod, node, internet, _] in [V4, V6] {
        for (sent, expected) in in_two(pod, internet).iter().zip(in_two(node, internet)) {
            rig.from_pod_a(sent).keeps("up the stack", &Untouched);
            rig.to_wire(sent).keeps("at the wire", &Passes(expected));
        }
        for (sent, expected) in in_two(internet, node).iter().zip(in_two(internet, pod)) {
            rig.from_wire(sent).keeps("reply", &Passes(expected));
        }
    }
}

#[test]
fn fragments_that_keep_their_addresses_go_the_way_of_their_flow() {
    let rig = Rig::new();
    for [pod, _, _, peer] in [V4, V6] {
        for (sent, expected) in in_two(pod, peer).iter().zip(on(in_two(pod, peer))) {
            rig.from_pod_a(sent).keeps("to the VNet", &ToWire(expected));
        }
        for (sent, expected) in in_two(peer, pod).iter().zip(on(in_two(peer, pod))) {
            rig.from_wire(sent).keeps("from the VNet", &ToPod(expected));
        }
    }
}

#[test]
fn fragment_of_a_pod_before_its_first_waits_a_few_times_and_is_dropped_then() {
    let rig = Rig::new();
    for [pod, node, internet, _] in [V4, V6] {
        let [first, later] = in_two(pod, internet);
        let mut mark = 0;
        for wait in 1..=MOST_WAITS {
            let outcome = with_mark(&rig, Hook::FromEndpoint, "azva", &later, mark);
            assert_eq!((outcome.verdict, outcome.mark), (Verdict::Wait, Rig::WAITING_MARK + wait), "wait {wait}");
            assert_eq!((outcome.frame.bytes, outcome.drops), (outcome.sent.bytes, vec![]));
            mark = outcome.mark;
        }
        let dropped = Dropped(FragmentNotTranslated);
        with_mark(&rig, Hook::FromEndpoint, "azva", &later, mark).keeps("once more", &dropped);
        // And if its first comes meanwhile, it follows, and carries no trace.
        let [first_out, later_out] = on(in_two(node, internet));
        rig.from_pod_a(&first).keeps("first", &ToWire(first_out));
        with_mark(&rig, Hook::FromEndpoint, "azva", &later, Rig::WAITING_MARK + 3).keeps("later", &ToWire(later_out));
    }
}

#[test]
fn fragment_from_the_wire_before_its_first_waits_a_few_times_and_is_the_hosts_then() {
    let rig = Rig::new();
    for [pod, node, internet, _] in [V4, V6] {
        for sent in in_two(pod, internet) {
            assert_eq!(rig.from_pod_a(&sent).verdict, Verdict::ToWire);
        }
        let [first, later] = in_two(internet, node);
        let mut mark = 0;
        for wait in 1..=MOST_WAITS {
            let outcome = with_mark(&rig, Hook::FromWire, "uplink", &later, mark);
            assert_eq!((outcome.verdict, outcome.mark), (Verdict::Wait, Rig::WAITING_MARK + wait), "wait {wait}");
            mark = outcome.mark;
        }
        let outcome = with_mark(&rig, Hook::FromWire, "uplink", &later, mark);
        outcome.keeps("once more", &Untouched);
        assert_eq!(outcome.mark, 0, "what others see of it is the packet as it came");

        let [first_in, later_in] = on(in_two(internet, pod));
        rig.from_wire(&first).keeps("first", &ToPod(first_in));
        let outcome = with_mark(&rig, Hook::FromWire, "uplink", &later, Rig::WAITING_MARK + 3);
        outcome.keeps("later", &ToPod(later_in));
        assert_eq!(outcome.mark, 0);
    }
}

/// Another program may clear the mark, or another agent's programs look at the packet too: the count in our table goes on.
#[test]
fn fragment_whose_mark_is_cleared_by_others_is_put_back_a_bounded_number_of_times() {
    let rig = Rig::new();
    for [pod, node, internet, _] in [V4, V6] {
        for (hook, interface, promise, frames) in [
            (Hook::FromWire, "uplink", Untouched, in_two(internet, node)),
            (Hook::FromEndpoint, "azva", Dropped(FragmentNotTranslated), in_two(pod, internet)),
        ] {
            let [first, later] = frames;
            for wait in 1..=FragmentPorts::MOST_WAITS {
                let outcome = with_mark(&rig, hook, interface, &later, 0);
                assert_eq!(outcome.verdict, Verdict::Wait, "wait {wait}");
            }
            let outcome = with_mark(&rig, hook, interface, &later, 0);
            outcome.keeps("once more", &promise);
            assert_eq!(outcome.mark, 0);
            let marked = with_mark(&rig, hook, interface, &later, Rig::WAITING_MARK + 3);
            marked.keeps("once more, marked", &promise);
            assert_eq!((marked.verdict == Verdict::Pass, marked.mark), (hook == Hook::FromWire, 0));
            // Its first is not refused for that, and neither is what follows it.
            let _ = rig.run(hook, interface, &first, Offload::default());
            assert_ne!(rig.run(hook, interface, &later, Offload::default()).verdict, Verdict::Wait);
        }
    }
}

#[test]
fn fragment_with_a_mark_of_somebody_else_does_not_wait() {
    let rig = Rig::new();
    let [pod, node, internet, _] = V4;
    for mark in [1, 0x4000, Rig::HANDLED_MARK, u32::MAX] {
        let [_, later] = in_two(internet, node);
        let outcome = with_mark(&rig, Hook::FromWire, "uplink", &later, mark);
        outcome.keeps("from the wire", &Untouched);
        assert_eq!(outcome.mark, mark);
        let [_, later] = in_two(pod, internet);
        with_mark(&rig, Hook::FromEndpoint, "azva", &later, mark).keeps("from a pod", &Dropped(FragmentNotTranslated));
    }
}

#[test]
fn fragments_of_the_host_and_for_it_are_untouched() {
    let rig = Rig::new();
    for [_, node, internet, _] in [V4, V6] {
        for sent in in_two(node, internet) {
            rig.to_wire(&sent).keeps("of the host", &Untouched);
        }
        for sent in in_two(internet, node) {
            rig.from_wire(&sent).keeps("for the host", &Untouched);
        }
    }
}

#[test]
fn fragment_without_its_first_goes_up_the_stack_where_nothing_is_translated() {
    let rig = Rig::new();
    for [pod, node, _, peer] in [V4, V6] {
        for (what, to) in [("VNet", peer), ("the host", node)] {
            let [_, later] = in_two(pod, to);
            rig.from_pod_a(&later).keeps(what, &Untouched);
        }
        let [_, later] = in_two(pod, peer);
        rig.to_wire(&later).keeps("VNet, at the wire", &Untouched);
        let [_, later] = in_two(peer, pod);
        rig.from_wire(&later).keeps("for a pod's own address", &Untouched);
    }
}

#[test]
fn first_fragment_is_remembered_for_its_packet_only_and_for_a_moment() {
    let rig = Rig::new();
    let [pod, _, internet, _] = V4;
    let [first, later] = in_two(pod, internet);
    assert_eq!(rig.from_pod_a(&first).verdict, Verdict::ToWire);
    let waits = |what: &str, frame: &Frame| assert_eq!(rig.from_pod_a(frame).verdict, Verdict::Wait, "{what}");
    let elsewhere: End = (Ipv4Addr::new(198, 51, 100, 99).into(), 443);
    waits("another packet", &Frame::udp_with_payload(pod, internet, &[7; 1200]).in_two(800, ID + 1)[1]);
    waits("another destination", &in_two(pod, elsewhere)[1]);
    waits("another protocol", &later.clone().with_header_bytes(9, &[6]));
    assert_eq!(rig.from_pod_a(&later).verdict, Verdict::ToWire);

    let mut fragments = rig.fragments();
    let all: Vec<_> = fragments.iter().map(|entry| entry.unwrap()).collect();
    assert_eq!(all.iter().filter(|(_, ports)| ports.are_known(now_ns())).count(), 1);
    for (key, ports) in all {
        fragments.insert(key, FragmentPorts { expires_ns: 1, ..ports }, 0).unwrap();
    }
    waits("too late", &later);
}

/// Behind the IP header of a later fragment is payload, whatever it looks like: an echo's may begin like an ICMP error.
#[test]
fn later_fragment_whose_payload_looks_like_an_icmp_error_follows_its_first() {
    const ERROR_TYPES: [u8; 3] = [3, 11, 12];
    let rig = Rig::new();
    let [pod, node, internet, _] = V4;
    let echo = |from: End, to: End| Frame::echo_request(from.0, to.0, from.1);
    let reply = |from: End, to: End| Frame::echo_reply(from.0, to.0, to.1);
    for error_type in ERROR_TYPES {
        let id = ID + u16::from(error_type);
        let pieces = |frame: Frame| {
            let [first, later] = frame.in_two(16, id);
            [first, later.with_raw_bytes(20, &[error_type])]
        };
        for (sent, expected) in pieces(echo(pod, internet)).iter().zip(on(pieces(echo(node, internet)))) {
            rig.from_pod_a(sent).keeps(&format!("type {error_type} from the pod"), &ToWire(expected));
        }
        for (sent, expected) in pieces(reply(internet, node)).iter().zip(on(pieces(reply(internet, pod)))) {
            rig.from_wire(sent).keeps(&format!("type {error_type} from the wire"), &ToPod(expected));
        }
    }
}
