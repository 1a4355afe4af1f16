//! What leaves the NIC: pod packets that went up the stack get their source here, all else leaves as it is.

use std::net::Ipv4Addr;

use azure_cni_common::drop_reason::DropReason::{
    FragmentNotTranslated, IcmpNotTranslated, MetadataBlocked, PlatformBlocked,
};
use azure_cni_datapath::{Constants, Hook};
use bpf_tests::Promise::{Dropped, Passes, Untouched};
use bpf_tests::{Frame, IcmpError, Offload, Rig, Verdict};

const A: (Ipv4Addr, u16) = (Rig::POD_A, 20_000);
const NODE: (Ipv4Addr, u16) = (Rig::NODE, 20_000);
const PEER: (Ipv4Addr, u16) = (Rig::PEER, 80);
const INTERNET: (Ipv4Addr, u16) = (Rig::INTERNET, 443);

#[test]
fn pod_packet_from_the_stack_is_translated_to_the_internet_only() {
    let rig = Rig::with_services_unknown();
    let cases = [
        ("Internet, TCP", Frame::tcp(A, INTERNET, "S"), Passes(Frame::tcp(NODE, INTERNET, "S"))),
        ("Internet, UDP", Frame::udp(A, INTERNET), Passes(Frame::udp(NODE, INTERNET))),
        (
            "Internet, echo",
            Frame::echo_request(A.0, INTERNET.0, 20_000),
            Passes(Frame::echo_request(NODE.0, INTERNET.0, 20_000)),
        ),
        (
            "Internet, last hop",
            Frame::udp(A, INTERNET).with_hop_limit(1),
            Passes(Frame::udp(NODE, INTERNET).with_hop_limit(1)),
        ),
        ("VNet, TCP", Frame::tcp(A, PEER, "S"), Untouched),
        ("VNet, UDP", Frame::udp(A, PEER), Untouched),
        ("VNet, ESP", Frame::portless(A.0, PEER.0, 50), Untouched),
    ];
    for (what, packet, promise) in cases {
        rig.to_wire(&packet).keeps(what, &promise);
        rig.to_wire(&packet).keeps(&format!("{what}, the same again"), &promise);
    }
}

#[test]
fn what_is_not_a_pods_leaves_untouched() {
    let rig = Rig::new();
    let cases = [
        ("the host, ephemeral port", Frame::tcp((Rig::NODE, 45_000), INTERNET, "S")),
        ("the host, port of the NAT range", Frame::tcp(NODE, INTERNET, "S")),
        ("the host, mid-stream", Frame::tcp((Rig::NODE, 20_001), INTERNET, "A")),
        ("the host, reply", Frame::tcp((Rig::NODE, 22), INTERNET, "SA")),
        ("the host, echo", Frame::echo_request(NODE.0, INTERNET.0, 20_000)),
        ("the host, echo reply", Frame::echo_reply(NODE.0, INTERNET.0, 20_000)),
        ("the host, fragment", Frame::udp(NODE, INTERNET).fragment(true, 0)),
        ("the host, ESP", Frame::portless(NODE.0, INTERNET.0, 50)),
        ("a second address of the host", Frame::udp((Ipv4Addr::new(10, 240, 0, 5), 20_000), INTERNET)),
        ("a container of another network", Frame::udp((Ipv4Addr::new(172, 17, 0, 2), 20_000), INTERNET)),
    ];
    for (what, packet) in cases {
        rig.to_wire(&packet).keeps(what, &Untouched);
    }
}

#[test]
fn packet_with_everything_done_leaves_as_it_is_and_without_the_mark() {
    let rig = Rig::new();
    let marked = |mark| Offload { mark, ..Offload::default() };
    let cases = [
        ("with the pod's address", Frame::udp(A, PEER)),
        // Looks like a flow of the host inside the NAT range.
        ("with the node's address", Frame::udp(NODE, INTERNET)),
        ("not even an IP packet", Frame::udp(A, PEER).with_ethertype(0x0806)),
    ];
    for (what, packet) in cases {
        let outcome = rig.run(Hook::ToWire, "uplink", &packet, marked(Rig::HANDLED_MARK));
        outcome.keeps(what, &Untouched);
        assert_eq!(outcome.mark, 0, "{what}");
    }
    assert_eq!(rig.flow_count() + rig.translation_count(), 0, "a finished packet was looked at again");
}

#[test]
fn marks_of_others_stay() {
    let rig = Rig::new();
    for mark in [1, 0x4000, 0x0ac1_0000, u32::MAX] {
        for packet in [Frame::udp(NODE, INTERNET), Frame::udp((A.0, 20_001), INTERNET)] {
            let outcome = rig.run(Hook::ToWire, "uplink", &packet, Offload { mark, ..Offload::default() });
            assert_eq!((outcome.verdict, outcome.mark), (Verdict::Pass, mark));
        }
    }
}

#[test]
fn what_from_endpoint_sends_to_the_wire_passes_to_wire_once() {
    let rig = Rig::new();
    let sent = rig.from_pod_a(&Frame::udp(A, INTERNET));
    assert_eq!(sent.verdict, Verdict::ToWire);
    let offload = Offload { mark: sent.mark, ..Offload::default() };
    let left = Frame::udp(NODE, INTERNET).one_hop_on();
    rig.run(Hook::ToWire, "uplink", &left, offload).keeps("translated already", &Untouched);
    let reply = Frame::udp(INTERNET, A).one_hop_on();
    rig.from_wire(&Frame::udp(INTERNET, NODE)).keeps("its reply", &bpf_tests::Promise::ToPod(reply));
}

#[test]
fn what_cannot_be_translated_leaves_with_the_pods_address_or_not_at_all() {
    let rig = Rig::new();
    let last = |to| Frame::udp(A, to).fragment(false, 10);
    let unreachable =
        |to: (Ipv4Addr, u16)| Frame::icmp_error(A.0, to.0, IcmpError::PortUnreachable, Frame::udp(to, A).packet());
    let cases = [
        ("VNet, fragment without its first", last(PEER), Untouched),
        ("VNet, ICMP message", unreachable(PEER), Untouched),
        ("Internet, fragment without its first", last(INTERNET), Dropped(FragmentNotTranslated)),
        ("Internet, ICMP message", unreachable(INTERNET), Dropped(IcmpNotTranslated)),
    ];
    for (what, packet, promise) in cases {
        rig.to_wire(&packet).keeps(what, &promise);
    }
}

/// A service whose backend is the platform's host agent: the stack chose it, after `from_endpoint` saw the service.
#[test]
fn host_agent_of_the_platform_is_out_of_reach_through_a_service_too() {
    let rig = Rig::with_services_unknown();
    let service = (Ipv4Addr::new(10, 0, 0, 10), 80);
    rig.from_pod_a(&Frame::tcp(A, service, "S")).keeps("to the service", &Untouched);
    for port in [80, 32_526] {
        let packet = Frame::tcp(A, (Rig::WIRE_SERVER, port), "S");
        rig.to_wire(&packet).keeps("to the backend", &Dropped(PlatformBlocked));
    }
    let dns = (Rig::WIRE_SERVER, 53);
    rig.to_wire(&Frame::udp(A, dns)).keeps("DNS", &Passes(Frame::udp(NODE, dns)));
}

/// The service's rules may ask for the node's source: then it says nothing of who has sent the packet.
#[test]
fn host_agent_and_metadata_are_out_of_reach_through_a_service_that_is_masqueraded() {
    let rig = Rig::with(Constants { block_imds: true, services_known: false, ..Rig::constants() }, 1024);
    let metadata = Ipv4Addr::new(169, 254, 169, 254);
    for (to, reason) in [
        ((Rig::WIRE_SERVER, 80), PlatformBlocked),
        ((Rig::WIRE_SERVER, 32_526), PlatformBlocked),
        ((metadata, 80), MetadataBlocked),
    ] {
        for source in [(Rig::NODE, 45_000), NODE] {
            for flags in ["S", "A"] {
                let packet = Frame::tcp(source, to, flags);
                // Pods, and whoever else is behind this host.
                for from in ["azva", "azvb", "uplink"] {
                    rig.forwarded_to_wire(from, &packet).keeps("forwarded", &Dropped(reason));
                }
                rig.to_wire(&packet).keeps("the host itself", &Untouched);
            }
            let [first, later] = Frame::tcp(source, to, "S").in_two(24, 9);
            rig.forwarded_to_wire("azva", &first).keeps("first fragment", &Dropped(reason));
            rig.forwarded_to_wire("azva", &later).keeps("later fragment", &Dropped(reason));
        }
    }
    let dns = Frame::udp((Rig::NODE, 45_000), (Rig::WIRE_SERVER, 53));
    rig.forwarded_to_wire("azva", &dns).keeps("DNS", &Untouched);
    let elsewhere = Frame::tcp((Rig::NODE, 45_000), INTERNET, "S");
    rig.forwarded_to_wire("azva", &elsewhere).keeps("elsewhere", &Untouched);
}
