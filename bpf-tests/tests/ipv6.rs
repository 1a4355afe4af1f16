//! IPv6: the same egress table and the same translation, by headers of its own.

use std::net::Ipv6Addr;

use azure_cni_common::drop_reason::DropReason::{FragmentNotTranslated, IcmpNotTranslated, Malformed, SourceNotOwned};
use azure_cni_datapath::Constants;
use bpf_tests::Promise::{Dropped, Passes, ToPod, ToWire, Untouched};
use bpf_tests::{DESTINATION_OPTIONS, FRAGMENT, Frame, HOP_BY_HOP, IcmpError, ROUTING, Rig, tuple};

type End = (Ipv6Addr, u16);

/// A packet of a kind, from and to.
type Kind = fn(End, End) -> Frame;

/// Protocol numbers and bytes.
type Extensions = &'static [(u8, &'static [u8])];

const A: End = (Rig::POD_A6, 20_000);
const B: End = (Rig::POD_B6, 20_000);
const NODE: End = (Rig::NODE6, 20_000);
const PEER: End = (Rig::PEER6, 80);
const INTERNET: End = (Rig::INTERNET6, 443);
/// Made of the MAC that the rig gives pod A.
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 1);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// RFC 4861 section 4.
const ROUTER_SOLICITATION: u8 = 133;
const NEIGHBOR_SOLICITATION: u8 = 135;

const PADDING: &[u8] = &[0, 0, 1, 4, 0, 0, 0, 0];
const LONG_PADDING: &[u8] = &[0, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// What; the question; the reply.
const KINDS: [(&str, Kind, Kind); 4] = [
    ("TCP", |from, to| Frame::tcp(from, to, "S"), |from, to| Frame::tcp(from, to, "SA")),
    ("UDP", Frame::udp, Frame::udp),
    ("echo", |from, to| Frame::echo_request(from.0, to.0, from.1), |from, to| Frame::echo_reply(from.0, to.0, to.1)),
    ("ESP", |from, to| Frame::portless(from.0, to.0, 50), |from, to| Frame::portless(from.0, to.0, 50)),
];

#[test]
fn destination_decides_way_and_source() {
    let rig = Rig::new();
    let from = |to| Frame::tcp(A, to, "S");
    let cases = [
        ("pod of this VM", from(B), ToPod(from(B).one_hop_on())),
        ("pod of another VM", from(PEER), ToWire(from(PEER).one_hop_on())),
        ("the node", from((Rig::NODE6, 10_250)), Untouched),
        ("Internet", from(INTERNET), ToWire(Frame::tcp(NODE, INTERNET, "S").one_hop_on())),
        ("last hop", from((Rig::PEER6, 81)).with_hop_limit(1), Untouched),
        ("all nodes", Frame::udp(A, (ALL_NODES, 5353)), Untouched),
        ("link-local", Frame::udp(A, (LINK_LOCAL, 5353)), Untouched),
        ("too long", Frame::udp_with_payload(A, PEER, &[7; 1453]), Untouched),
    ];
    for (what, packet, promise) in cases {
        rig.from_pod_a(&packet).keeps(what, &promise);
        rig.from_pod_a(&packet).keeps(&format!("{what}, the same again"), &promise);
    }
    let longest = Frame::udp_with_payload(A, PEER, &[7; 1452]);
    rig.from_pod_a(&longest).keeps("just as long", &ToWire(longest.clone().one_hop_on()));
}

#[test]
fn translated_both_ways_and_through_the_stack() {
    let rig = Rig::new();
    let stack = Rig::with_services_unknown;
    for (what, question, reply) in KINDS {
        let out = question(NODE, INTERNET);
        rig.from_pod_a(&question(A, INTERNET)).keeps(what, &ToWire(out.one_hop_on()));
        let back = reply(INTERNET, A);
        rig.from_wire(&reply(INTERNET, NODE)).keeps(what, &ToPod(back.one_hop_on()));
    }
    drop(rig);
    let rig = stack();
    for (what, question, reply) in KINDS {
        rig.from_pod_a(&question(A, INTERNET)).keeps(what, &Untouched);
        rig.to_wire(&question(A, INTERNET)).keeps(what, &Passes(question(NODE, INTERNET)));
        rig.from_wire(&reply(INTERNET, NODE)).keeps(what, &Passes(reply(INTERNET, A)));
    }
}

#[test]
fn two_pods_with_the_same_port_get_two_and_each_its_own_answers() {
    let rig = Rig::new();
    for (what, question, reply) in &KINDS[..3] {
        rig.from_pod_a(&question(A, INTERNET)).keeps(what, &ToWire(question(NODE, INTERNET).one_hop_on()));
        let second = rig.from_pod_b(&question(B, INTERNET)).frame.source6();
        assert!(second.0 == Rig::NODE6 && second != NODE, "{what}: {second:?}");
        rig.from_pod_b(&question(B, INTERNET)).keeps(what, &ToWire(question(second, INTERNET).one_hop_on()));
        rig.from_wire(&reply(INTERNET, second)).keeps(what, &ToPod(reply(INTERNET, B).one_hop_on()));
        rig.from_wire(&reply(INTERNET, NODE)).keeps(what, &ToPod(reply(INTERNET, A).one_hop_on()));
    }
}

#[test]
fn inbound_connection_is_answered_with_the_pods_address() {
    let rig = Rig::new();
    let syn = Frame::tcp(INTERNET, A, "S");
    rig.from_wire(&syn).keeps("inbound", &ToPod(syn.clone().one_hop_on()));
    let reply = Frame::tcp(A, INTERNET, "SA");
    rig.from_pod_a(&reply).keeps("reply", &ToWire(reply.clone().one_hop_on()));
    for other in [Frame::tcp(INTERNET, (Rig::NODE6, 22), "S"), Frame::udp(INTERNET, PEER)] {
        rig.from_wire(&other).keeps("not for a pod", &Untouched);
    }
    assert_eq!(rig.translation_count(), 0);
}

#[test]
fn transport_is_found_behind_extension_headers() {
    let rig = Rig::new();
    let chains: [(&str, Extensions); 6] = [
        ("hop-by-hop", &[(HOP_BY_HOP, PADDING)]),
        ("destination options", &[(DESTINATION_OPTIONS, LONG_PADDING)]),
        ("routing", &[(ROUTING, PADDING)]),
        ("fragment that is whole", &[(FRAGMENT, &[0; 8])]),
        ("two", &[(HOP_BY_HOP, LONG_PADDING), (DESTINATION_OPTIONS, PADDING)]),
        (
            "four",
            &[
                (HOP_BY_HOP, LONG_PADDING),
                (DESTINATION_OPTIONS, PADDING),
                (FRAGMENT, &[0; 8]),
                (DESTINATION_OPTIONS, LONG_PADDING),
            ],
        ),
    ];
    for (what, chain) in chains {
        for (kind, question, reply) in KINDS {
            let what = format!("{what}, {kind}");
            let out = question(NODE, INTERNET).with_extensions(chain).one_hop_on();
            rig.from_pod_a(&question(A, INTERNET).with_extensions(chain)).keeps(&what, &ToWire(out));
            let back = reply(INTERNET, A).with_extensions(chain).one_hop_on();
            rig.from_wire(&reply(INTERNET, NODE).with_extensions(chain)).keeps(&what, &ToPod(back));
        }
    }
}

#[test]
fn transport_behind_more_headers_than_are_looked_behind_is_left_to_the_stack_and_not_translated() {
    let rig = Rig::new();
    let five = |from, to| Frame::udp(from, to).with_extensions(&[(DESTINATION_OPTIONS, PADDING); 5]);
    for to in [PEER, INTERNET] {
        rig.from_pod_a(&five(A, to)).keeps("from a pod", &Untouched);
        rig.from_pod_b(&five(A, to)).keeps("with another's source", &Dropped(SourceNotOwned));
    }
    rig.to_wire(&five(A, PEER)).keeps("VNet, at the wire", &Untouched);
    rig.to_wire(&five(A, INTERNET)).keeps("Internet, at the wire", &Dropped(IcmpNotTranslated));
    rig.from_wire(&five(INTERNET, NODE)).keeps("from the wire", &Untouched);
    assert_eq!(rig.flow_count(), 0);
}

fn malformed(from: End, to: End) -> Vec<(&'static str, Frame)> {
    let (tcp, udp) = (Frame::tcp(from, to, "S"), Frame::udp(from, to));
    vec![
        ("version 4", udp.clone().with_raw_bytes(0, &[0x45])),
        ("version 0", udp.clone().with_raw_bytes(0, &[0x05])),
        ("length beyond the frame", udp.clone().with_raw_bytes(4, &[0, 30])),
        ("length far beyond the frame", udp.clone().with_raw_bytes(4, &[0xff, 0xff])),
        ("length 0", udp.clone().with_raw_bytes(4, &[0, 0])),
        ("frame ends before the packet", udp.clone().cut_to(60)),
        ("TCP header of 19 bytes", tcp.clone().shortened_to(59)),
        ("TCP header of no bytes", tcp.clone().shortened_to(40)),
        ("UDP header of 7 bytes", udp.clone().shortened_to(47)),
        ("ICMP header of 7 bytes", Frame::echo_request(from.0, to.0, 1).shortened_to(47)),
        ("frame ends in an extension header", udp.clone().with_extensions(&[(HOP_BY_HOP, PADDING)]).shortened_to(44)),
        (
            "extension header longer than the packet",
            udp.clone().with_extensions(&[(DESTINATION_OPTIONS, &[0, 255, 1, 4, 0, 0, 0, 0])]),
        ),
        ("packet ends with an extension header", udp.with_extensions(&[(HOP_BY_HOP, PADDING)]).shortened_to(48)),
        ("first fragment without a transport header", tcp.in_two(16, 7)[0].clone()),
    ]
}

#[test]
fn pod_that_sends_malformed_packets_is_stopped_and_others_pass_untouched() {
    let rig = Rig::new();
    for to in [B, PEER, INTERNET] {
        for (what, packet) in malformed(A, to) {
            rig.from_pod_a(&packet).keeps(&format!("{what} to {to:?}"), &Dropped(Malformed));
            rig.to_wire(&packet).keeps(&format!("{what} to {to:?}, at the wire"), &Untouched);
        }
    }
    for (what, packet) in malformed(PEER, A) {
        rig.from_wire(&packet).keeps(&format!("{what}, from the wire"), &Untouched);
        rig.stack_to_pod_a(&packet).keeps(&format!("{what}, from the stack"), &Untouched);
    }
    assert_eq!(rig.flow_count(), 0);
}

#[test]
fn pod_sends_from_its_own_address_and_on_its_link_from_a_link_local_one() {
    let rig = Rig::new();
    let unspecified = Ipv6Addr::UNSPECIFIED;
    let foreign = Dropped(SourceNotOwned);
    let neighbor = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    let cases = [
        ("another pod's", Frame::udp(B, PEER), foreign.clone()),
        ("the node's", Frame::udp(NODE, INTERNET), foreign.clone()),
        ("a stranger's", Frame::udp(INTERNET, PEER), foreign.clone()),
        ("another pod's to all nodes", Frame::udp(B, (ALL_NODES, 5353)), foreign.clone()),
        ("link-local to the Internet", Frame::udp((LINK_LOCAL, 1), INTERNET), foreign.clone()),
        ("link-local to a pod", Frame::udp((LINK_LOCAL, 1), B), foreign.clone()),
        ("link-local to the node", Frame::udp((LINK_LOCAL, 1), NODE), foreign.clone()),
        ("unspecified to the Internet", Frame::udp((unspecified, 1), INTERNET), foreign.clone()),
        ("loopback", Frame::udp((Ipv6Addr::LOCALHOST, 1), PEER), foreign),
        ("link-local to all nodes", Frame::icmp_other(LINK_LOCAL, ALL_NODES, ROUTER_SOLICITATION), Untouched),
        ("link-local to its neighbor", Frame::icmp_other(LINK_LOCAL, neighbor, NEIGHBOR_SOLICITATION), Untouched),
        ("address detection", Frame::icmp_other(unspecified, ALL_NODES, NEIGHBOR_SOLICITATION), Untouched),
        ("its own, to its neighbor", Frame::icmp_other(A.0, neighbor, NEIGHBOR_SOLICITATION), Untouched),
    ];
    for (what, packet, promise) in cases {
        rig.from_pod_a(&packet).keeps(what, &promise);
    }
    assert_eq!(rig.flow_count(), 0);
}

#[test]
fn prober_on_the_uplinks_link_is_answered_there_and_never_asked() {
    const PROBER: End = (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0x1234, 0x5678, 0x9abc), 50_000);
    let rig = Rig::new();
    let to_prober = |kind: Kind| kind((A.0, 80), PROBER);
    for (what, probe, reply) in KINDS {
        rig.from_pod_a(&to_prober(probe)).keeps(&format!("{what}, not probed yet"), &Untouched);
        rig.from_wire(&probe(PROBER, (A.0, 80))).keeps(what, &ToPod(probe(PROBER, (A.0, 80)).one_hop_on()));
        rig.from_pod_a(&to_prober(reply)).keeps(what, &ToWire(to_prober(reply).one_hop_on()));
    }
    let [_, later] = Frame::udp(A, (PROBER.0, 9)).in_two(16, 9);
    rig.from_pod_a(&later).keeps("fragment without its first", &Untouched);
    let foreign = Frame::tcp((Rig::POD_B6, 80), PROBER, "SA");
    rig.from_pod_a(&foreign).keeps("another pod's reply", &Dropped(SourceNotOwned));
    assert_eq!(rig.translation_count(), 0);
}

#[test]
fn family_that_is_not_translated_keeps_its_source() {
    let rig = Rig::with(Constants { snat6: false, ..Rig::constants() }, 1024);
    for (what, question, reply) in KINDS {
        let packet = question(A, INTERNET);
        rig.from_pod_a(&packet).keeps(what, &ToWire(packet.clone().one_hop_on()));
        rig.to_wire(&question((A.0, 20_001), INTERNET)).keeps(&format!("{what}, at the wire"), &Untouched);
        let back = reply(INTERNET, A);
        rig.from_wire(&back).keeps(&format!("{what}, its reply"), &ToPod(back.clone().one_hop_on()));
    }
    let [_, later] = Frame::udp(A, INTERNET).in_two(16, 9);
    rig.from_pod_a(&later).keeps("fragment without its first", &Untouched);
    rig.to_wire(&later).keeps("fragment without its first, at the wire", &Untouched);
    let quoted = Frame::udp((Rig::INTERNET6, 9), A);
    let message = Frame::icmp_error(A.0, INTERNET.0, IcmpError::PortUnreachable, quoted.packet());
    rig.to_wire(&message).keeps("message of no flow, at the wire", &Untouched);
    assert_eq!(rig.translation_count(), 0);

    let rig = Rig::new();
    rig.to_wire(&later).keeps("where it is translated", &Dropped(FragmentNotTranslated));
    assert!(rig.flow6(&tuple(A, INTERNET, 17)).is_none());
}
