//! Egress of a pod: which way a packet takes, with which source, and what may not leave at all.

use std::net::Ipv4Addr;

use azure_cni_common::drop_reason::DropReason::{PlatformBlocked, SourceNotOwned};
use azure_cni_datapath::Hook;
use bpf_tests::Promise::{Dropped, ToPod, ToWire, Untouched};
use bpf_tests::{Frame, IcmpError, Offload, Rig, Verdict};

const A: (Ipv4Addr, u16) = (Rig::POD_A, 20_000);
const B: (Ipv4Addr, u16) = (Rig::POD_B, 80);
const PEER: (Ipv4Addr, u16) = (Rig::PEER, 80);
const NODE: (Ipv4Addr, u16) = (Rig::NODE, 20_000);
const INTERNET: (Ipv4Addr, u16) = (Rig::INTERNET, 443);
const SERVICE: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 0, 0, 10), 53);
const METADATA: (Ipv4Addr, u16) = (Ipv4Addr::new(169, 254, 169, 254), 80);

#[test]
fn destination_decides_way_and_source() {
    let rig = Rig::new();
    let from = |to| Frame::tcp(A, to, "S");
    let cases = [
        ("pod of this VM", from(B), ToPod(from(B).one_hop_on())),
        ("itself", from((Rig::POD_A, 80)), ToPod(from((Rig::POD_A, 80)).one_hop_on())),
        ("pod of another VM", from(PEER), ToWire(from(PEER).one_hop_on())),
        ("the node", from((Rig::NODE, 10_250)), Untouched),
        ("node-local DNS", Frame::udp(A, (Rig::NODE_LOCAL_DNS, 53)), Untouched),
        ("Internet", from(INTERNET), ToWire(Frame::tcp(NODE, INTERNET, "S").one_hop_on())),
        ("metadata service", from(METADATA), ToWire(Frame::tcp(NODE, METADATA, "S").one_hop_on())),
    ];
    for (what, packet, promise) in cases {
        rig.from_pod_a(&packet).keeps(what, &promise);
        rig.from_pod_a(&packet).keeps(&format!("{what}, the same again"), &promise);
    }
}

#[test]
fn while_services_are_unknown_only_the_vnet_takes_the_short_way() {
    let rig = Rig::with_services_unknown();
    let cases = [
        ("pod of this VM", Frame::udp(A, B), ToPod(Frame::udp(A, B).one_hop_on())),
        ("pod of another VM", Frame::udp(A, PEER), ToWire(Frame::udp(A, PEER).one_hop_on())),
        ("Internet or a service", Frame::udp(A, INTERNET), Untouched),
        ("a service", Frame::udp(A, SERVICE), Untouched),
        ("portless", Frame::portless(A.0, INTERNET.0, 50), Untouched),
    ];
    for (what, packet, promise) in cases {
        rig.from_pod_a(&packet).keeps(what, &promise);
        rig.from_pod_a(&packet).keeps(&format!("{what}, the same again"), &promise);
    }
}

#[test]
fn pod_sends_from_its_own_address_only() {
    let rig = Rig::new();
    let sources = [
        ("another pod's", Rig::POD_B),
        ("the node's", Rig::NODE),
        ("another VM's pod's", Rig::PEER),
        ("a stranger's", Ipv4Addr::new(203, 0, 113, 7)),
        ("none", Ipv4Addr::UNSPECIFIED),
        ("loopback", Ipv4Addr::LOCALHOST),
        ("broadcast", Ipv4Addr::BROADCAST),
    ];
    for (what, source) in sources {
        for destination in [B, PEER, NODE, INTERNET, (Ipv4Addr::BROADCAST, 67)] {
            let packets = [
                Frame::udp((source, 20_000), destination),
                Frame::udp((source, 20_000), destination).with_hop_limit(1),
                Frame::udp((source, 20_000), destination).fragment(true, 0),
                Frame::echo_request(source, destination.0, 1),
            ];
            for packet in packets {
                rig.from_pod_a(&packet).keeps(&format!("{what} to {destination:?}"), &Dropped(SourceNotOwned));
            }
        }
    }
    assert_eq!(rig.flow_count(), 0, "a spoofed packet left a flow");
}

#[test]
fn source_is_the_pods_of_this_very_veth() {
    let rig = Rig::new();
    rig.from_pod_a(&Frame::udp(A, PEER)).keeps("from its veth", &ToWire(Frame::udp(A, PEER).one_hop_on()));
    rig.from_pod_b(&Frame::udp(A, PEER)).keeps("the same from another's", &Dropped(SourceNotOwned));
    rig.tables().remove_endpoint(Rig::POD_A.into()).unwrap();
    rig.from_pod_a(&Frame::udp(A, PEER)).keeps("after the pod was removed", &Dropped(SourceNotOwned));
}

#[test]
fn host_agent_of_the_platform_is_out_of_reach_and_its_dns_is_not() {
    let rig = Rig::new();
    let server = |port| (Rig::WIRE_SERVER, port);
    let cases = [
        ("certificates", Frame::tcp(A, server(80), "S"), Dropped(PlatformBlocked)),
        ("extensions", Frame::tcp(A, server(32_526), "S"), Dropped(PlatformBlocked)),
        ("mid-stream", Frame::tcp(A, server(80), "A"), Dropped(PlatformBlocked)),
        ("with IP options", Frame::tcp(A, server(80), "S").with_ip_options(&[1; 40]), Dropped(PlatformBlocked)),
        ("with the last hop", Frame::tcp(A, server(80), "S").with_hop_limit(1), Dropped(PlatformBlocked)),
        ("DNS", Frame::udp(A, server(53)), ToWire(Frame::udp(NODE, server(53)).one_hop_on())),
        ("DNS, TCP", Frame::tcp(A, server(53), "S"), ToWire(Frame::tcp(NODE, server(53), "S").one_hop_on())),
    ];
    for (what, packet, promise) in cases {
        rig.from_pod_a(&packet).keeps(what, &promise);
    }
}

#[test]
fn multicast_and_broadcast_are_the_stacks() {
    let rig = Rig::new();
    for group in [[224, 0, 0, 251], [239, 1, 2, 3], [255, 255, 255, 255], [0, 0, 0, 0]] {
        rig.from_pod_a(&Frame::udp(A, (group.into(), 5353))).keeps(&format!("{group:?}"), &Untouched);
    }
    assert_eq!(rig.flow_count(), 0);
}

#[test]
fn last_hop_is_left_to_the_stack_which_answers_time_exceeded() {
    let rig = Rig::new();
    for destination in [B, PEER, INTERNET] {
        // Also once the flow is known.
        assert_ne!(rig.from_pod_a(&Frame::udp(A, destination)).verdict, Verdict::Pass);
        for hop_limit in [1, 0] {
            let packet = Frame::udp(A, destination).with_hop_limit(hop_limit);
            rig.from_pod_a(&packet).keeps(&format!("{hop_limit} to {destination:?}"), &Untouched);
        }
        let two = Frame::udp(A, destination).with_hop_limit(2);
        assert_ne!(rig.from_pod_a(&two).verdict, Verdict::Pass, "one hop is left after this one");
    }
}

#[test]
fn packet_longer_than_the_uplink_takes_is_left_to_the_stack_which_answers_fragmentation_needed() {
    let rig = Rig::new();
    let of_length = |destination, length: usize| Frame::udp_with_payload(A, destination, &vec![7; length - 28]);
    for destination in [PEER, INTERNET] {
        rig.from_pod_a(&of_length(destination, 1501)).keeps("one too long", &Untouched);
        assert_eq!(rig.from_pod_a(&of_length(destination, 1500)).verdict, Verdict::ToWire, "just as long");
        assert_eq!(rig.from_pod_a(&of_length(destination, 1500).padded(9)).verdict, Verdict::ToWire, "padding");
    }
}

#[test]
fn packet_that_the_device_will_cut_counts_by_its_segments() {
    let rig = Rig::new();
    let packet = Frame::udp_with_payload(A, PEER, &[7; 2800]);
    let verdict =
        |segment| rig.run(Hook::FromEndpoint, "azva", &packet, Offload { segment, ..Offload::default() }).verdict;
    assert_eq!(verdict(1472), Verdict::ToWire);
    assert_eq!(verdict(1473), Verdict::Pass);
}

#[test]
fn icmp_messages_that_belong_to_no_flow_are_left_to_the_stack() {
    let rig = Rig::new();
    for destination in [B, PEER, INTERNET] {
        let quoted = Frame::udp(destination, A);
        for error in IcmpError::ALL {
            let message = Frame::icmp_error(A.0, destination.0, error, quoted.packet());
            rig.from_pod_a(&message).keeps(&format!("{error:?} to {destination:?}"), &Untouched);
        }
        const ROUTER_SOLICITATION: u8 = 10;
        let message = Frame::icmp_other(A.0, destination.0, ROUTER_SOLICITATION);
        rig.from_pod_a(&message).keeps(&format!("solicitation to {destination:?}"), &Untouched);
    }
    assert_eq!(rig.flow_count(), 0);
}

#[test]
fn dont_fragment_flag_does_not_make_a_fragment() {
    let rig = Rig::new();
    let packet = Frame::udp(A, PEER).with_header_bytes(6, &[0x40, 0]);
    rig.from_pod_a(&packet).keeps("DF", &ToWire(packet.clone().one_hop_on()));
}

#[test]
fn flow_that_was_opened_before_its_pod_came_reaches_the_pod() {
    let rig = Rig::new();
    let late: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 240, 1, 3), 8125);
    let packet = Frame::udp(A, late);
    rig.from_pod_a(&packet).keeps("not here yet", &ToWire(packet.clone().one_hop_on()));
    rig.add_pod(late.0, "azvb");
    rig.from_pod_a(&packet).keeps("here now", &ToPod(packet.clone().one_hop_on()));
    let reply = Frame::udp(late, A);
    rig.from_pod_b(&reply).keeps("its reply", &ToPod(reply.clone().one_hop_on()));
}

#[test]
fn pod_that_left_is_left_to_the_stack_which_answers_unreachable() {
    let rig = Rig::new();
    let packet = Frame::tcp(A, B, "S");
    rig.from_pod_a(&packet).keeps("here", &ToPod(packet.clone().one_hop_on()));
    rig.tables().remove_endpoint(Rig::POD_B.into()).unwrap();
    rig.from_pod_a(&packet).keeps("gone", &Untouched);
}
