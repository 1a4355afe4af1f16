//! Source NAT byte for byte: what leaves, what comes back, for every protocol. All frames expected here are built from
//! their values, checksums summed by etherparse: nothing is compared with what the programs computed.

use std::net::Ipv4Addr;

use bpf_tests::Promise::{Passes, ToPod, ToWire};
use bpf_tests::{Frame, Rig};

const INTERNET: (Ipv4Addr, u16) = (Rig::INTERNET, 443);
/// In the NAT range, so it is kept.
const PORT: u16 = 20_000;
const A: (Ipv4Addr, u16) = (Rig::POD_A, PORT);
const NODE: (Ipv4Addr, u16) = (Rig::NODE, PORT);

/// A packet of a kind, from and to.
type Kind = fn((Ipv4Addr, u16), (Ipv4Addr, u16)) -> Frame;

/// What; the question; the reply, asked by the one it goes to.
const KINDS: &[(&str, Kind, Kind)] = &[
    ("TCP", |from, to| Frame::tcp(from, to, "S"), |from, to| Frame::tcp(from, to, "SA")),
    ("UDP", Frame::udp, Frame::udp),
    ("UDP, no payload", |f, t| Frame::udp_with_payload(f, t, b""), |f, t| Frame::udp_with_payload(f, t, b"")),
    (
        "UDP without checksum",
        |from, to| Frame::udp(from, to).without_udp_checksum(),
        |from, to| Frame::udp(from, to).without_udp_checksum(),
    ),
    ("echo", |from, to| Frame::echo_request(from.0, to.0, from.1), |from, to| Frame::echo_reply(from.0, to.0, to.1)),
    ("ESP", |from, to| Frame::portless(from.0, to.0, 50), |from, to| Frame::portless(from.0, to.0, 50)),
    ("GRE", |from, to| Frame::portless(from.0, to.0, 47), |from, to| Frame::portless(from.0, to.0, 47)),
    (
        "TCP with IP options",
        |from, to| Frame::tcp(from, to, "S").with_ip_options(&[1; 4]),
        |from, to| Frame::tcp(from, to, "SA").with_ip_options(&[1; 40]),
    ),
    (
        "UDP with IP options",
        |from, to| Frame::udp(from, to).with_ip_options(&[1; 40]),
        |from, to| Frame::udp(from, to).with_ip_options(&[1; 8]),
    ),
    (
        "echo with IP options",
        |from, to| Frame::echo_request(from.0, to.0, from.1).with_ip_options(&[1; 12]),
        |from, to| Frame::echo_reply(from.0, to.0, to.1).with_ip_options(&[1; 12]),
    ),
    ("UDP with padding", |f, t| Frame::udp(f, t).padded(7), |f, t| Frame::udp(f, t).padded(7)),
];

#[test]
fn flow_leaves_from_the_node_and_its_reply_comes_back_to_the_pod() {
    for (what, question, reply) in KINDS {
        let rig = Rig::new();
        let out = question(NODE, INTERNET).one_hop_on();
        rig.from_pod_a(&question(A, INTERNET)).keeps(what, &ToWire(out));
        let back = reply(INTERNET, A).one_hop_on();
        rig.from_wire(&reply(INTERNET, NODE)).keeps(&format!("{what}, reply"), &ToPod(back));
    }
}

#[test]
fn flow_through_the_stack_is_translated_the_same() {
    let rig = Rig::with_services_unknown();
    for (index, (what, question, reply)) in KINDS.iter().enumerate() {
        // A destination each: protocols without ports have one flow to each.
        let remote = (Ipv4Addr::new(198, 51, 100, 100 + index as u8), 443);
        rig.to_wire(&question(A, remote)).keeps(what, &Passes(question(NODE, remote)));
        rig.from_wire(&reply(remote, NODE)).keeps(&format!("{what}, reply"), &Passes(reply(remote, A)));
    }
}

#[test]
fn port_outside_of_the_range_changes_and_comes_back() {
    for (what, question, reply) in KINDS {
        let rig = Rig::with_nat_ports(25_000, 25_000);
        if question(A, INTERNET).packet()[9] > 17 {
            continue;
        }
        let node = (Rig::NODE, 25_000);
        let out = question(node, INTERNET).one_hop_on();
        rig.from_pod_a(&question(A, INTERNET)).keeps(what, &ToWire(out));
        let back = reply(INTERNET, A).one_hop_on();
        rig.from_wire(&reply(INTERNET, node)).keeps(&format!("{what}, reply"), &ToPod(back));
    }
}

/// RFC 768: a UDP checksum of zero would mean "none", so it is sent as all ones.
#[test]
fn udp_checksum_that_comes_out_as_zero_is_sent_as_all_ones() {
    let rig = Rig::with_nat_ports(25_000, 25_000);
    let node = (Rig::NODE, 25_000);
    let sums_to_zero = |from, to| {
        (0..=u16::MAX)
            .map(u16::to_be_bytes)
            .find(|payload| Frame::udp_with_payload(from, to, payload).packet()[26..28] == [0xff, 0xff])
            .expect("one payload of two bytes does it")
    };
    let payload = sums_to_zero(node, INTERNET);
    let out = Frame::udp_with_payload(node, INTERNET, &payload).one_hop_on();
    rig.from_pod_a(&Frame::udp_with_payload(A, INTERNET, &payload)).keeps("out", &ToWire(out));

    let payload = sums_to_zero(INTERNET, A);
    let back = Frame::udp_with_payload(INTERNET, A, &payload).one_hop_on();
    rig.from_wire(&Frame::udp_with_payload(INTERNET, node, &payload)).keeps("back", &ToPod(back));
}

#[test]
fn damaged_checksum_stays_damaged() {
    let rig = Rig::new();
    let damaged = |frame: Frame| {
        let [high, low] = [frame.packet()[36], frame.packet()[37]];
        frame.with_raw_bytes(36, &(u16::from_be_bytes([high, low]) ^ 0x0110).to_be_bytes())
    };
    let outcome = rig.from_pod_a(&damaged(Frame::tcp(A, INTERNET, "S")));
    assert_eq!(outcome.verdict, bpf_tests::Verdict::ToWire);
    let error = bpf_tests::checksums_are_right(&outcome.frame.bytes).expect_err("the receiver must see the damage");
    assert!(error.starts_with("transport"), "{error}");
}

#[test]
fn length_of_the_packet_does_not_matter() {
    let rig = Rig::new();
    for length in [0, 1, 2, 3, 17, 512, 1399, 1471, 1472] {
        let payload: Vec<u8> = (0..length).map(|index| (index * 7) as u8).collect();
        let packet = |from, to| Frame::udp_with_payload(from, to, &payload);
        let what = format!("{length} bytes");
        rig.from_pod_a(&packet(A, INTERNET)).keeps(&what, &ToWire(packet(NODE, INTERNET).one_hop_on()));
        rig.from_wire(&packet(INTERNET, NODE)).keeps(&what, &ToPod(packet(INTERNET, A).one_hop_on()));
    }
}
