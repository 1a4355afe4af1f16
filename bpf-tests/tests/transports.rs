//! Source NAT of what is less common than TCP, UDP and echo: UDP-Lite, and the other questions that ICMP knows.

use std::net::IpAddr;

use bpf_tests::Promise::{Passes, ToPod, ToWire, Untouched};
use bpf_tests::{Frame, IcmpError, Rig};

type End = (IpAddr, u16);

const PORT: u16 = 20_000;

/// Pod, node, Internet, a pod's port outside of the NAT range.
const FAMILIES: [[End; 3]; 2] = [
    [(IpAddr::V4(Rig::POD_A), PORT), (IpAddr::V4(Rig::NODE), PORT), (IpAddr::V4(Rig::INTERNET), 443)],
    [(IpAddr::V6(Rig::POD_A6), PORT), (IpAddr::V6(Rig::NODE6), PORT), (IpAddr::V6(Rig::INTERNET6), 443)],
];

fn lite(from: End, to: End) -> Frame {
    Frame::udp_lite(from, to, b"payload of odd length")
}

#[test]
fn udp_lite_is_translated_both_ways_ports_and_checksum() {
    let rig = Rig::new();
    for [pod, node, internet] in FAMILIES {
        rig.from_pod_a(&lite(pod, internet)).keeps("question", &ToWire(lite(node, internet).one_hop_on()));
        rig.from_wire(&lite(internet, node)).keeps("answer", &ToPod(lite(internet, pod).one_hop_on()));
        // The kernel's UDP of the same ports is another flow.
        rig.from_wire(&Frame::udp(internet, node)).keeps("UDP", &Untouched);
    }
}

#[test]
fn two_pods_speak_udp_lite_to_one_port_by_ports_of_their_own() {
    let rig = Rig::with_nat_ports(25_000, 25_001);
    for [pod, node, internet] in FAMILIES {
        let other: IpAddr = if pod.0.is_ipv4() { Rig::POD_B.into() } else { Rig::POD_B6.into() };
        let given = |frame: &Frame| if pod.0.is_ipv4() { frame.source().1 } else { frame.source6().1 };
        let a = given(&rig.from_pod_a(&lite(pod, internet)).frame);
        let b = given(&rig.from_pod_b(&lite((other, PORT), internet)).frame);
        assert_eq!([a.min(b), a.max(b)], [25_000, 25_001]);
        for (port, receiver) in [(a, pod.0), (b, other)] {
            let back = lite(internet, (receiver, PORT)).one_hop_on();
            rig.from_wire(&lite(internet, (node.0, port))).keeps("answer", &ToPod(back));
        }
    }
}

/// RFC 3828 section 3.1: the sum is never zero.
#[test]
fn udp_lite_checksum_that_comes_out_as_zero_is_sent_as_all_ones() {
    let rig = Rig::with_nat_ports(25_000, 25_000);
    for [pod, node, internet] in FAMILIES {
        let node = (node.0, 25_000);
        let sum_at = if pod.0.is_ipv4() { 26 } else { 46 };
        let payload = (0..=u16::MAX)
            .map(u16::to_be_bytes)
            .find(|payload| Frame::udp_lite(node, internet, payload).packet()[sum_at..][..2] == [0xff, 0xff])
            .expect("one payload of two bytes does it");
        let out = Frame::udp_lite(node, internet, &payload).one_hop_on();
        rig.from_pod_a(&Frame::udp_lite(pod, internet, &payload)).keeps("out", &ToWire(out));
    }
}

#[test]
fn icmp_error_about_udp_lite_is_translated_with_what_it_quotes() {
    let rig = Rig::new();
    for [pod, node, internet] in FAMILIES {
        rig.from_pod_a(&lite(pod, internet)).keeps("question", &ToWire(lite(node, internet).one_hop_on()));
        let error =
            |to: End| Frame::icmp_error(internet.0, to.0, IcmpError::TooLong(1400), lite(to, internet).packet());
        rig.from_wire(&error(node)).keeps("too long", &ToPod(error(pod).one_hop_on()));
    }
}

#[test]
fn udp_lite_through_the_stack_is_translated_at_the_wire() {
    let rig = Rig::with_services_unknown();
    for [pod, node, internet] in FAMILIES {
        rig.from_pod_a(&lite(pod, internet)).keeps("up the stack", &Untouched);
        rig.to_wire(&lite(pod, internet)).keeps("at the wire", &Passes(lite(node, internet)));
        rig.from_wire(&lite(internet, node)).keeps("answer", &Passes(lite(internet, pod)));
    }
}

/// Question and answer: echo, timestamp, information, address mask, extended echo.
const QUERIES: [&[(u8, u8)]; 2] = [&[(8, 0), (13, 14), (15, 16), (17, 18), (42, 43)], &[(128, 129), (160, 161)]];

#[test]
fn every_icmp_question_with_an_identifier_is_translated_and_so_is_its_answer() {
    let rig = Rig::with_nat_ports(25_000, 25_999);
    for ([pod, node, internet], queries) in FAMILIES.into_iter().zip(QUERIES) {
        for (index, (question, answer)) in queries.iter().enumerate() {
            // In the range, so that the identifier stays.
            let id = 25_000 + index as u16;
            let what = format!("type {question}");
            let ask = |from: End| Frame::icmp_query(from.0, internet.0, *question, id);
            let reply = |to: End| Frame::icmp_query(internet.0, to.0, *answer, id);
            rig.from_pod_a(&ask(pod)).keeps(&what, &ToWire(ask(node).one_hop_on()));
            rig.from_wire(&reply(node)).keeps(&what, &ToPod(reply(pod).one_hop_on()));
            let error = |to: End| Frame::icmp_error(internet.0, to.0, IcmpError::TimeExceeded, ask(to).packet());
            rig.from_wire(&error(node)).keeps(&what, &ToPod(error(pod).one_hop_on()));
        }
    }
}

#[test]
fn identifier_of_an_icmp_question_that_is_replaced_comes_back() {
    let rig = Rig::with_nat_ports(25_000, 25_999);
    for ([pod, node, internet], queries) in FAMILIES.into_iter().zip(QUERIES) {
        for (index, (question, answer)) in queries.iter().enumerate() {
            let own = 7 + index as u16;
            let sent = rig.from_pod_a(&Frame::icmp_query(pod.0, internet.0, *question, own)).frame;
            let at = if pod.0.is_ipv4() { 24 } else { 44 };
            let given = u16::from_be_bytes([sent.packet()[at], sent.packet()[at + 1]]);
            assert!((25_000..26_000).contains(&given), "type {question}: {given}");
            let back = Frame::icmp_query(internet.0, pod.0, *answer, own).one_hop_on();
            let reply = Frame::icmp_query(internet.0, node.0, *answer, given);
            rig.from_wire(&reply).keeps(&format!("type {answer}"), &ToPod(back));
        }
    }
}
