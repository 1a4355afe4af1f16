//! ICMP errors belong to the flow of the packet that they quote, and are translated as it was. Every message expected here
//! is built from the quoted packet as its receiver sent it, so inner addresses, ports and all checksums are summed again.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use azure_cni_common::drop_reason::DropReason::{IcmpNotOwned, IcmpNotTranslated, IcmpRateLimited, SourceNotOwned};
use azure_cni_common::icmp_budget::IcmpBudget;
use azure_cni_datapath::Hook;
use bpf_tests::Promise::{Dropped, Passes, ToPod, ToWire, Untouched};
use bpf_tests::{Frame, IcmpError, Offload, Rig, tuple};

type End = (IpAddr, u16);

/// A packet of a kind, from and to.
type Kind = fn(End, End) -> Frame;

const PORT: u16 = 20_000;

/// The ends of a translated flow in one family, and a router on its way.
struct Ends {
    pod: End,
    other_pod: End,
    node: End,
    internet: End,
    router: IpAddr,
}

const V4: Ends = Ends {
    pod: (IpAddr::V4(Rig::POD_A), PORT),
    other_pod: (IpAddr::V4(Rig::POD_B), PORT),
    node: (IpAddr::V4(Rig::NODE), PORT),
    internet: (IpAddr::V4(Rig::INTERNET), 443),
    router: IpAddr::V4(Ipv4Addr::new(203, 0, 113, 254)),
};

const V6: Ends = Ends {
    pod: (IpAddr::V6(Rig::POD_A6), PORT),
    other_pod: (IpAddr::V6(Rig::POD_B6), PORT),
    node: (IpAddr::V6(Rig::NODE6), PORT),
    internet: (IpAddr::V6(Rig::INTERNET6), 443),
    router: IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x99, 0, 0, 0, 0, 1)),
};

/// What; the question; the reply.
const KINDS: [(&str, Kind, Kind); 3] = [
    ("TCP", |from, to| Frame::tcp(from, to, "S"), |from, to| Frame::tcp(from, to, "SA")),
    ("UDP", Frame::udp, Frame::udp),
    ("echo", |from, to| Frame::echo_request(from.0, to.0, from.1), |from, to| Frame::echo_reply(from.0, to.0, to.1)),
];

/// Opens a flow of each kind to the Internet, and lets the other end reply.
fn open_with_replies(rig: &Rig, ends: &Ends) {
    for (what, question, reply) in KINDS {
        let out = question(ends.node, ends.internet).one_hop_on();
        rig.from_pod_a(&question(ends.pod, ends.internet)).keeps(what, &ToWire(out));
        let back = reply(ends.internet, ends.pod).one_hop_on();
        rig.from_wire(&reply(ends.internet, ends.node)).keeps(what, &ToPod(back));
    }
}

/// The packet as routers quote it: all of it, or eight bytes behind the IP header.
fn quotes(frame: &Frame) -> [Vec<u8>; 2] {
    let packet = frame.packet();
    let header = if packet[0] >> 4 == 6 { 40 } else { 20 };
    [packet.to_vec(), packet[..header + 8].to_vec()]
}

#[test]
fn error_from_the_wire_about_a_translated_packet_reaches_the_pod_as_one_about_its_own() {
    let rig = Rig::new();
    for ends in [V4, V6] {
        open_with_replies(&rig, &ends);
        for (what, question, _) in KINDS {
            let (sent, own) = (question(ends.node, ends.internet), question(ends.pod, ends.internet));
            for (sent, own) in quotes(&sent).iter().zip(quotes(&own)) {
                for error in IcmpError::ALL {
                    let message = Frame::icmp_error(ends.router, ends.node.0, error, sent);
                    let expected = Frame::icmp_error(ends.router, ends.pod.0, error, &own).one_hop_on();
                    let what = format!("{what}, {error:?}, {} bytes quoted", own.len());
                    rig.from_wire(&message).keeps(&what, &ToPod(expected));
                }
            }
        }
    }
}

#[test]
fn quoted_datagram_without_a_checksum_stays_without() {
    let rig = Rig::new();
    open_with_replies(&rig, &V4);
    let quoted = |from| Frame::udp(from, V4.internet).without_udp_checksum();
    let message = |to: End| Frame::icmp_error(V4.router, to.0, IcmpError::TooLong(1400), quoted(to).packet());
    rig.from_wire(&message(V4.node)).keeps("too long", &ToPod(message(V4.pod).one_hop_on()));
}

#[test]
fn quoted_packet_whose_port_was_replaced_gets_its_own_back() {
    let rig = Rig::new();
    for ends in [V4, V6] {
        open_with_replies(&rig, &ends);
        for (what, question, _) in KINDS {
            let out = rig.from_pod_b(&question(ends.other_pod, ends.internet));
            let given = match ends.node.0 {
                IpAddr::V4(_) => out.frame.source().1,
                IpAddr::V6(_) => out.frame.source6().1,
            };
            assert_ne!(given, PORT, "{what}");
            let sent = question((ends.node.0, given), ends.internet);
            let own = question(ends.other_pod, ends.internet);
            let error = IcmpError::PortUnreachable;
            let message = Frame::icmp_error(ends.router, ends.node.0, error, sent.packet());
            let expected = Frame::icmp_error(ends.router, ends.other_pod.0, error, own.packet()).one_hop_on();
            rig.from_wire(&message).keeps(what, &ToPod(expected));
        }
    }
}

#[test]
fn pods_error_about_an_reply_leaves_as_the_nodes() {
    let rig = Rig::new();
    for ends in [V4, V6] {
        open_with_replies(&rig, &ends);
        for (what, _, reply) in KINDS {
            let (received, sent) = (reply(ends.internet, ends.pod), reply(ends.internet, ends.node));
            for error in IcmpError::ALL {
                let message = Frame::icmp_error(ends.pod.0, ends.internet.0, error, received.packet());
                let expected = Frame::icmp_error(ends.node.0, ends.internet.0, error, sent.packet());
                rig.from_pod_a(&message).keeps(what, &ToWire(expected.clone().one_hop_on()));
                rig.to_wire(&message).keeps(&format!("{what}, through the stack"), &Passes(expected));
            }
        }
    }
}

#[test]
fn hosts_error_about_an_reply_speaks_of_it_as_it_came() {
    let rig = Rig::new();
    for ends in [V4, V6] {
        open_with_replies(&rig, &ends);
        for (what, _, reply) in KINDS {
            let (received, sent) = (reply(ends.internet, ends.pod), reply(ends.internet, ends.node));
            let error = IcmpError::TimeExceeded;
            let message = Frame::icmp_error(ends.node.0, ends.internet.0, error, received.packet());
            let expected = Frame::icmp_error(ends.node.0, ends.internet.0, error, sent.packet());
            rig.to_wire(&message).keeps(what, &Passes(expected));
        }
    }
}

#[test]
fn error_about_a_packet_that_keeps_its_addresses_goes_the_way_of_its_flow() {
    let rig = Rig::new();
    let pairs: [(End, End); 2] = [(V4.pod, (Rig::PEER.into(), 80)), (V6.pod, (Rig::PEER6.into(), 80))];
    for (pod, peer) in pairs {
        let question = Frame::udp(pod, peer);
        rig.from_pod_a(&question).keeps("question", &ToWire(question.clone().one_hop_on()));
        let message = Frame::icmp_error(peer.0, pod.0, IcmpError::PortUnreachable, question.packet());
        rig.from_wire(&message).keeps("about the question", &ToPod(message.clone().one_hop_on()));
        let reply = Frame::udp(peer, pod);
        let message = Frame::icmp_error(pod.0, peer.0, IcmpError::PortUnreachable, reply.packet());
        rig.from_pod_a(&message).keeps("about the reply", &ToWire(message.clone().one_hop_on()));
    }
    let (here, there) = (V4.pod, V4.other_pod);
    let question = Frame::udp(here, there);
    rig.from_pod_a(&question).keeps("between pods", &ToPod(question.clone().one_hop_on()));
    let message = Frame::icmp_error(there.0, here.0, IcmpError::PortUnreachable, question.packet());
    rig.from_pod_b(&message).keeps("about it", &ToPod(message.clone().one_hop_on()));
}

#[test]
fn error_about_an_unknown_flow_is_left_to_the_stack_and_does_not_leave_untranslated() {
    let rig = Rig::new();
    for ends in [V4, V6] {
        let (reply, question) = (Frame::udp(ends.internet, ends.pod), Frame::udp(ends.node, ends.internet));
        for error in IcmpError::ALL {
            let of_pod = Frame::icmp_error(ends.pod.0, ends.internet.0, error, reply.packet());
            rig.from_pod_a(&of_pod).keeps("from the pod", &Untouched);
            rig.to_wire(&of_pod).keeps("at the wire", &Dropped(IcmpNotTranslated));
            let of_router = Frame::icmp_error(ends.router, ends.node.0, error, question.packet());
            rig.from_wire(&of_router).keeps("from the wire", &Untouched);
            let of_host =
                Frame::icmp_error(ends.node.0, ends.internet.0, error, Frame::udp(ends.internet, ends.node).packet());
            rig.to_wire(&of_host).keeps("of the host", &Untouched);
        }
    }
    assert_eq!(rig.flow_count(), 0);
}

#[test]
fn pod_does_not_speak_of_anothers_packet_or_from_anothers_address() {
    let rig = Rig::new();
    for ends in [V4, V6] {
        open_with_replies(&rig, &ends);
        let received = Frame::udp(ends.internet, ends.pod);
        let error = IcmpError::PortUnreachable;
        let message = Frame::icmp_error(ends.other_pod.0, ends.internet.0, error, received.packet());
        rig.from_pod_b(&message).keeps("of another pod's packet", &Dropped(IcmpNotOwned));
        rig.to_wire(&message).keeps("at the wire", &Dropped(IcmpNotOwned));
        let message = Frame::icmp_error(ends.pod.0, ends.internet.0, error, received.packet());
        rig.from_pod_b(&message).keeps("from another pod's address", &Dropped(SourceNotOwned));
    }
}

/// Else a pod could have errors with the node's address sent to whom it likes.
#[test]
fn pods_error_goes_to_the_sender_of_the_packet_that_it_quotes_and_to_no_other() {
    let rig = Rig::new();
    for ends in [V4, V6] {
        open_with_replies(&rig, &ends);
        for (what, _, reply) in KINDS {
            let received = reply(ends.internet, ends.pod);
            for victim in [ends.router, ends.other_pod.0, ends.node.0] {
                let message = Frame::icmp_error(ends.pod.0, victim, IcmpError::TimeExceeded, received.packet());
                rig.from_pod_a(&message).keeps(&format!("{what} to {victim}"), &Dropped(IcmpNotOwned));
                rig.to_wire(&message).keeps(&format!("{what} to {victim}, at the wire"), &Dropped(IcmpNotOwned));
            }
        }
    }
}

#[test]
fn error_of_a_pod_that_comes_in_parts_does_not_leave_with_the_nodes_address() {
    let rig = Rig::new();
    open_with_replies(&rig, &V4);
    let received = Frame::udp(V4.internet, V4.pod);
    let message = Frame::icmp_error(V4.pod.0, V4.internet.0, IcmpError::TimeExceeded, received.packet());
    let [first, _] = message.in_two(32, 7);
    rig.from_pod_a(&first).keeps("from the pod", &Untouched);
    rig.to_wire(&first).keeps("at the wire", &Dropped(IcmpNotTranslated));
}

#[test]
fn pod_that_floods_errors_is_held_to_its_share_and_others_are_not() {
    let rig = Rig::new();
    for ends in [V4, V6] {
        open_with_replies(&rig, &ends);
    }
    let error = |ends: &Ends, pod: End, about: End| {
        Frame::icmp_error(pod.0, ends.internet.0, IcmpError::PortUnreachable, Frame::udp(about, pod).packet())
    };
    // Both families together, by whatever way: the second kind is about no known flow and goes up the stack.
    let unknown = (Rig::INTERNET.into(), 444);
    let messages = [error(&V4, V4.pod, V4.internet), error(&V6, V6.pod, V6.internet), error(&V4, V4.pod, unknown)];
    let start = std::time::Instant::now();
    let outcomes: Vec<_> = (0..600).map(|index| rig.from_pod_a(&messages[index % 3])).collect();
    let passed = start.elapsed().as_secs_f64();
    let refused = outcomes.iter().filter(|outcome| outcome.drops == [IcmpRateLimited]).count() as f64;
    let sent = outcomes.len() as f64 - refused;
    let most = IcmpBudget::BURST as f64 + IcmpBudget::RATE as f64 * (passed + 0.1);
    assert!(sent >= IcmpBudget::BURST as f64, "{sent} of a burst");
    assert!(sent <= most, "{sent} in {passed} s, {refused} refused");

    let of_other = error(&V4, V4.other_pod, V4.internet);
    rig.from_pod_b(&of_other).keeps("another pod has a share of its own", &Untouched);
}

#[test]
fn errors_do_not_renew_or_reset_a_flow() {
    let rig = Rig::new();
    open_with_replies(&rig, &V4);
    let key = tuple((Rig::POD_A, PORT), (Rig::INTERNET, 443), 17);
    let before = rig.flow(&key).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let question = Frame::udp(V4.node, V4.internet);
    let message = Frame::icmp_error(V4.router, V4.node.0, IcmpError::PortUnreachable, question.packet());
    let own = Frame::udp(V4.pod, V4.internet);
    let expected = Frame::icmp_error(V4.router, V4.pod.0, IcmpError::PortUnreachable, own.packet()).one_hop_on();
    rig.from_wire(&message).keeps("a router's", &ToPod(expected));
    assert_eq!(rig.flow(&key), Some(before));
    let flows = rig.flow_count();
    rig.expire_flows();
    let expired = rig.flow(&key);
    let _ = rig.from_wire(&message);
    assert_eq!((rig.flow(&key), rig.flow_count()), (expired, flows));
}

#[test]
fn errors_about_flows_through_the_stack_are_left_to_it() {
    let rig = Rig::with_services_unknown();
    for ends in [V4, V6] {
        for (what, question, reply) in KINDS {
            rig.from_pod_a(&question(ends.pod, ends.internet)).keeps(what, &Untouched);
            let out = Passes(question(ends.node, ends.internet));
            rig.to_wire(&question(ends.pod, ends.internet)).keeps(what, &out);
            let back = Passes(reply(ends.internet, ends.pod));
            rig.from_wire(&reply(ends.internet, ends.node)).keeps(what, &back);

            let error = IcmpError::TooLong(1400);
            let (sent, own) = (question(ends.node, ends.internet), question(ends.pod, ends.internet));
            let message = Frame::icmp_error(ends.router, ends.node.0, error, sent.packet());
            let expected = Frame::icmp_error(ends.router, ends.pod.0, error, own.packet());
            rig.from_wire(&message).keeps(&format!("{what}, from the wire"), &Passes(expected));

            let (received, came) = (reply(ends.internet, ends.pod), reply(ends.internet, ends.node));
            let message = Frame::icmp_error(ends.pod.0, ends.internet.0, error, received.packet());
            rig.from_pod_a(&message).keeps(&format!("{what}, from the pod"), &Untouched);
            let expected = Frame::icmp_error(ends.node.0, ends.internet.0, error, came.packet());
            rig.to_wire(&message).keeps(&format!("{what}, at the wire"), &Passes(expected));
        }
    }
}

#[test]
fn last_hop_of_an_error_is_left_to_the_stack() {
    let rig = Rig::new();
    open_with_replies(&rig, &V4);
    let message = |to: End| {
        let quoted = Frame::udp(to, V4.internet);
        Frame::icmp_error(V4.router, to.0, IcmpError::PortUnreachable, quoted.packet()).with_hop_limit(1)
    };
    rig.from_wire(&message(V4.node)).keeps("one hop", &Passes(message(V4.pod)));
    let marked = Offload { mark: Rig::HANDLED_MARK, ..Offload::default() };
    rig.run(Hook::ToWire, "uplink", &message(V4.pod), marked).keeps("done already", &Untouched);
}
