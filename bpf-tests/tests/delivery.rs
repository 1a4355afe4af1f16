//! How a frame is addressed that goes straight into a pod: a guest behind the pod's interface takes in nothing else.

use std::net::IpAddr;

use bpf_tests::{AZV_MAC, Frame, IcmpError, Outcome, Rig, Verdict};

const PORT: u16 = 20_000;

/// Pod A, pod B, the node, a pod of another VM, an Internet host.
const FAMILIES: [[IpAddr; 5]; 2] = [
    [
        IpAddr::V4(Rig::POD_A),
        IpAddr::V4(Rig::POD_B),
        IpAddr::V4(Rig::NODE),
        IpAddr::V4(Rig::PEER),
        IpAddr::V4(Rig::INTERNET),
    ],
    [
        IpAddr::V6(Rig::POD_A6),
        IpAddr::V6(Rig::POD_B6),
        IpAddr::V6(Rig::NODE6),
        IpAddr::V6(Rig::PEER6),
        IpAddr::V6(Rig::INTERNET6),
    ],
];

#[track_caller]
fn assert_is_for_pod_a(what: &str, outcome: &Outcome, ethertype: [u8; 2]) {
    assert_eq!(outcome.verdict, Verdict::ToPod, "{what}");
    let expected = [&Rig::pod_mac(Rig::POD_A)[..], &AZV_MAC, &ethertype].concat();
    let expected6 = [&Rig::pod_mac(Rig::POD_A6)[..], &AZV_MAC, &ethertype].concat();
    let found = &outcome.frame.bytes[..14];
    assert!(found == expected || found == expected6, "{what}: {found:02x?}");
}

#[test]
fn frame_for_a_pod_goes_from_the_host_interface_to_the_pods_mac_by_every_direct_way() {
    let rig = Rig::new();
    for ([a, b, node, peer, internet], ethertype) in FAMILIES.into_iter().zip([[0x08, 0x00], [0x86, 0xdd]]) {
        let question = Frame::udp((a, PORT), (internet, 443));
        assert_eq!(rig.from_pod_a(&question).verdict, Verdict::ToWire);
        let too_long = |quoted: &Frame, to| Frame::icmp_error(peer, to, IcmpError::TooLong(1400), quoted.packet());
        let sent = Frame::udp((node, PORT), (internet, 443));
        let local = Frame::udp((a, PORT), (b, 53));
        assert_eq!(rig.from_pod_a(&local).verdict, Verdict::ToPod);
        let from_wire = [
            ("inbound", Frame::udp((peer, 9), (a, PORT))),
            ("inbound, once more", Frame::udp((peer, 9), (a, PORT))),
            ("translated reply", Frame::udp((internet, 443), (node, PORT))),
            ("fragment", Frame::udp_with_payload((peer, 9), (a, PORT), &[7; 1200]).in_two(800, 5)[0].clone()),
            ("later fragment", Frame::udp_with_payload((peer, 9), (a, PORT), &[7; 1200]).in_two(800, 5)[1].clone()),
            ("ICMP error about a translated packet", too_long(&sent, node)),
        ];
        for (what, frame) in from_wire {
            assert_is_for_pod_a(what, &rig.from_wire(&frame), ethertype);
        }
        let from_b = [
            ("pod to pod", Frame::tcp((b, 8080), (a, PORT), "S")),
            ("reply of a pod", Frame::udp((b, 53), (a, PORT))),
            ("ICMP error of a pod", Frame::icmp_error(b, a, IcmpError::PortUnreachable, local.packet())),
        ];
        for (what, frame) in from_b {
            assert_is_for_pod_a(what, &rig.from_pod_b(&frame), ethertype);
        }
    }
}
