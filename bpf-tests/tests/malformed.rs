//! Headers that are cut short or contradict each other: a pod's are dropped, others' are left to the stack.

use std::net::Ipv4Addr;

use azure_cni_common::drop_reason::DropReason::Malformed;
use azure_cni_datapath::Hook;
use bpf_tests::Promise::{Dropped, ToWire, Untouched};
use bpf_tests::{Frame, Offload, Rig, Verdict};

const A: (Ipv4Addr, u16) = (Rig::POD_A, 20_000);
const PEER: (Ipv4Addr, u16) = (Rig::PEER, 80);

type Addresses = ((Ipv4Addr, u16), (Ipv4Addr, u16));

fn malformed((from, to): Addresses) -> Vec<(&'static str, Frame)> {
    let (tcp, udp) = (Frame::tcp(from, to, "S"), Frame::udp(from, to));
    let echo = Frame::echo_request(from.0, to.0, 1);
    let esp = Frame::portless(from.0, to.0, 50);
    vec![
        ("frame ends in the IP options", udp.clone().with_ip_options(&[1; 12]).cut_to(30)),
        ("header length 0", udp.clone().with_raw_bytes(0, &[0x40])),
        ("header length 16", udp.clone().with_raw_bytes(0, &[0x44])),
        ("header longer than the packet", udp.clone().with_raw_bytes(0, &[0x4f])),
        ("version 6", udp.clone().with_raw_bytes(0, &[0x65])),
        ("version 0", udp.clone().with_raw_bytes(0, &[0x05])),
        ("total length beyond the frame", udp.clone().with_header_bytes(2, &[0, 50])),
        ("total length far beyond the frame", udp.clone().with_header_bytes(2, &[0xff, 0xff])),
        ("total length within the header", udp.clone().with_header_bytes(2, &[0, 19])),
        ("total length 0", udp.clone().with_header_bytes(2, &[0, 0])),
        ("frame ends before the packet", udp.clone().cut_to(48)),
        ("TCP header of 19 bytes", tcp.clone().shortened_to(39)),
        ("TCP header of no bytes", tcp.clone().shortened_to(20)),
        ("TCP header that ends in padding", tcp.clone().with_header_bytes(2, &[0, 39])),
        ("UDP header of 7 bytes", udp.clone().shortened_to(27)),
        ("UDP header of no bytes", udp.shortened_to(20)),
        ("ICMP header of 7 bytes", echo.clone().shortened_to(27)),
        ("ICMP header behind options, 4 bytes", echo.with_ip_options(&[1; 8]).shortened_to(32)),
        ("TCP with options instead of a header", tcp.with_ip_options(&[1; 20]).shortened_to(40)),
        ("ESP, frame ends before the packet", esp.cut_to(40)),
    ]
}

#[test]
fn pod_that_sends_malformed_packets_is_stopped() {
    let rig = Rig::new();
    for addresses in [(A, PEER), (A, (Rig::POD_B, 80)), (A, (Rig::INTERNET, 443))] {
        for (what, packet) in malformed(addresses) {
            rig.from_pod_a(&packet).keeps(&format!("{what} to {:?}", addresses.1), &Dropped(Malformed));
        }
    }
    assert_eq!(rig.flow_count(), 0);
}

#[test]
fn malformed_packets_of_others_pass_untouched() {
    let rig = Rig::new();
    // So that a header that can be trusted would be translated.
    assert_eq!(rig.from_pod_a(&Frame::udp(A, (Rig::INTERNET, 443))).verdict, Verdict::ToWire);
    for addresses in [(PEER, A), ((Rig::INTERNET, 443), (Rig::NODE, 20_000))] {
        for (what, packet) in malformed(addresses) {
            rig.from_wire(&packet).keeps(&format!("{what}, from the wire"), &Untouched);
            rig.stack_to_pod_a(&packet).keeps(&format!("{what}, from the stack"), &Untouched);
        }
    }
    for (what, packet) in malformed((A, (Rig::INTERNET, 443))) {
        rig.to_wire(&packet).keeps(&format!("{what}, to the wire"), &Untouched);
    }
}

#[test]
fn shortest_packets_that_are_whole_pass() {
    let rig = Rig::new();
    let cases = [
        ("TCP", Frame::tcp(A, PEER, "S").shortened_to(40)),
        ("UDP", Frame::udp(A, PEER).shortened_to(28)),
        ("echo", Frame::echo_request(A.0, PEER.0, 1).shortened_to(28)),
        ("ESP", Frame::portless(A.0, PEER.0, 50).shortened_to(20)),
        ("UDP behind 40 bytes of options", Frame::udp(A, PEER).with_ip_options(&[1; 40]).shortened_to(68)),
    ];
    for (what, packet) in cases {
        let outcome = rig.from_pod_a(&packet);
        assert_eq!(outcome.verdict, Verdict::ToWire, "{what}: {:?}", outcome.drops);
        assert_eq!(outcome.frame.packet(), packet.one_hop_on().packet(), "{what}");
    }
}

/// RFC 8200 section 4.5, RFC 1858: a first fragment without the transport's header hides what the packet is.
#[test]
fn first_fragment_without_a_transport_header_is_malformed() {
    let rig = Rig::new();
    let packet = Frame::tcp(A, PEER, "S").shortened_to(28).fragment(true, 0);
    rig.from_pod_a(&packet).keeps("tiny first fragment", &Dropped(Malformed));
    rig.from_wire(&Frame::tcp(PEER, A, "S").shortened_to(28).fragment(true, 0)).keeps("from the wire", &Untouched);
    assert_eq!(rig.flow_count(), 0);
}

/// More than 65,535 bytes in one buffer have no length field; the device cuts them into segments that have.
#[test]
fn only_a_packet_that_will_be_cut_may_have_no_length() {
    let rig = Rig::new();
    let packet = Frame::udp_with_payload(A, PEER, &[7; 2800]).with_header_bytes(2, &[0, 0]);
    let offload = Offload { segment: 1400, ..Offload::default() };
    let outcome = rig.run(Hook::FromEndpoint, "azva", &packet, offload);
    assert_eq!(outcome.verdict, Verdict::ToWire, "{:?}", outcome.drops);
    rig.from_pod_a(&packet).keeps("without segments", &Dropped(Malformed));
}

#[test]
fn padding_behind_a_packet_is_not_the_packet() {
    let rig = Rig::new();
    let packet = Frame::udp(A, PEER).padded(40);
    rig.from_pod_a(&packet).keeps("padded", &ToWire(packet.clone().one_hop_on()));
}
