//! What nothing has proven decides nothing: not whose flow it is, not its way, not its source.

use std::net::{IpAddr, Ipv4Addr};

use azure_cni_common::drop_reason::DropReason::MartianSource;
use azure_cni_common::egress::RouteClass;
use azure_cni_common::flow::{Flow, FlowKey};
use azure_cni_datapath::{Constants, Hook};
use bpf_tests::Promise::{Dropped, ToPod, ToWire, Untouched};
use bpf_tests::{Frame, Offload, Rig, Verdict, ifindex, tuple};
use ipnet::IpNet;

const TCP: u8 = 6;
const MAX_HALF_OPEN: u16 = 64;

/// Of each family: the pod, its neighbour on this VM, a machine of the VNet, one of the Internet.
const NETS: [[IpAddr; 4]; 2] = [
    [IpAddr::V4(Rig::POD_A), IpAddr::V4(Rig::POD_B), IpAddr::V4(Rig::PEER), IpAddr::V4(Rig::INTERNET)],
    [IpAddr::V6(Rig::POD_A6), IpAddr::V6(Rig::POD_B6), IpAddr::V6(Rig::PEER6), IpAddr::V6(Rig::INTERNET6)],
];

#[test]
fn answer_that_nobody_asked_for_does_not_make_the_pods_question_a_reply() {
    type Way = fn(&Rig, &Frame) -> bpf_tests::Outcome;
    let ways: [(&str, Way); 2] = [("from the wire", Rig::from_wire), ("through the stack", Rig::stack_to_pod_a)];
    for (way, arrive) in ways {
        for server in [(Rig::INTERNET, 53), (Rig::INTERNET, 123), (Rig::WIRE_SERVER, 53)] {
            let rig = Rig::new();
            let platform = IpNet::from(IpAddr::V4(Rig::WIRE_SERVER));
            let routes = Rig::routes().into_iter().chain([(platform, RouteClass::PLATFORM)]).collect();
            rig.tables().set_routes(&routes).unwrap();
            let pod = (Rig::POD_A, 40_000);
            let _ = arrive(&rig, &Frame::udp(server, pod));
            let asked = rig.from_pod_a(&Frame::udp(pod, server));
            assert_eq!((asked.verdict, asked.frame.source().0), (Verdict::ToWire, Rig::NODE), "{way}, {server:?}");
        }
    }
}

#[test]
fn syn_that_nobody_answered_does_not_make_the_pods_own_syn_a_reply() {
    for with_reset in [true, false] {
        let rig = Rig::new();
        let (pod, server) = ((Rig::POD_A, 40_000), (Rig::INTERNET, 443));
        let _ = rig.from_wire(&Frame::tcp_with_numbers(server, pod, "S", 5_000_000, 0));
        if with_reset {
            let _ = rig.from_pod_a(&Frame::tcp_with_numbers(pod, server, "RA", 0, 5_000_022));
        }
        let asked = rig.from_pod_a(&Frame::tcp(pod, server, "S"));
        assert_eq!((asked.verdict, asked.frame.source().0), (Verdict::ToWire, Rig::NODE), "reset {with_reset}");
    }
}

/// Simultaneous open (RFC 9293 figure 7): the pod's stack acknowledges the number of whoever sends a SYN.
#[test]
fn reset_by_a_number_that_its_sender_chose_ends_no_flow() {
    for [pod, _, peer, _] in NETS {
        let rig = Rig::new();
        let (pod, peer) = ((pod, 20_000), (peer, 443));
        let (own, forged) = (0x1234_5678, 0x7777_0000);
        let _ = rig.from_pod_a(&Frame::tcp_with_numbers(pod, peer, "S", own, 0));
        let before = flow(&rig, pod, peer);
        let _ = rig.from_wire(&Frame::tcp_with_numbers(peer, pod, "S", forged, 0));
        let _ = rig.from_pod_a(&Frame::tcp_with_numbers(pod, peer, "SA", own, forged + 1));
        let _ = rig.from_wire(&Frame::tcp_with_numbers(peer, pod, "R", forged + 1, 0));
        let after = flow(&rig, pod, peer);
        assert!(after.expires_ns >= before.expires_ns && !after.state.is_closing(), "{after:?}");
    }
}

/// A NodePort that keeps the client's address: the same two ends, by another way.
#[test]
fn forged_packet_from_the_wire_does_not_lead_replies_past_the_stack() {
    for [pod, _, _, internet] in NETS {
        let (client, server) = ((internet, 45_000), (pod, 80));
        let rig = Rig::new();
        let _ = rig.from_wire(&Frame::tcp_with_numbers(client, server, "S", 5_000_000, 0));
        rig.stack_to_pod_a(&Frame::tcp(client, server, "S")).keeps("the honest client", &Untouched);
        rig.from_pod_a(&Frame::tcp(server, client, "SA")).keeps("its reply", &Untouched);

        let rig = Rig::new();
        let _ = rig.from_wire(&Frame::udp(client, server));
        rig.stack_to_pod_a(&Frame::udp(client, server)).keeps("the honest client", &Untouched);
        rig.from_pod_a(&Frame::udp(server, client)).keeps("its reply", &Untouched);
    }
}

#[test]
fn what_a_flood_turned_over_is_made_again_by_the_way_that_it_takes() {
    let rig = Rig::with_tables(Rig::constants(), 1024, MAX_HALF_OPEN.into());
    let flood = |flags: Option<&str>| {
        for index in 0..20 * MAX_HALF_OPEN {
            let (from, to) = ((Rig::POD_B, 1024 + index), (Ipv4Addr::new(203, 0, 113, 1), index));
            let scan = flags.map_or_else(|| Frame::udp(from, to), |flags| Frame::tcp(from, to, flags));
            assert_eq!(rig.from_pod_b(&scan).verdict, Verdict::ToWire);
        }
    };
    let (client, server) = ((Rig::PEER, 45_000), (Rig::POD_A, 80));
    rig.stack_to_pod_a(&Frame::tcp(client, server, "S")).keeps("a SYN", &Untouched);
    flood(Some("S"));
    for round in ["behind the flood", "repeated", "once more"] {
        rig.from_pod_a(&Frame::tcp(server, client, "SA")).keeps(round, &Untouched);
        rig.stack_to_pod_a(&Frame::tcp(client, server, "S")).keeps(round, &Untouched);
    }

    for client in [(Rig::PEER, 45_000), (Rig::INTERNET, 45_000)] {
        let server = (Rig::POD_A, 53);
        rig.stack_to_pod_a(&Frame::udp(client, server)).keeps("a datagram", &Untouched);
        flood(None);
        let _ = rig.from_pod_a(&Frame::udp(server, client));
        for round in ["the next", "the one after"] {
            rig.stack_to_pod_a(&Frame::udp(client, server)).keeps(round, &Untouched);
            rig.from_pod_a(&Frame::udp(server, client)).keeps(round, &Untouched);
        }
    }
}

#[test]
fn no_address_of_this_node_reaches_a_pod_from_the_wire() {
    let rig = Rig::new();
    let mut routes = Rig::routes();
    let own: [(IpAddr, RouteClass); 5] = [
        (Rig::NODE_LOCAL_DNS.into(), RouteClass::HOST),
        (Ipv4Addr::new(10, 240, 0, 5).into(), RouteClass::HOST),
        (Ipv4Addr::new(10, 240, 1, 77).into(), RouteClass::POOL),
        ("fd00:10:240::5".parse().unwrap(), RouteClass::HOST),
        ("fd00:10:240:1::77".parse().unwrap(), RouteClass::POOL),
    ];
    routes.extend(own.map(|(address, class)| (address.into(), class)));
    rig.tables().set_routes(&routes).unwrap();
    for (address, class) in own {
        let pod: IpAddr = if address.is_ipv4() { Rig::POD_A.into() } else { Rig::POD_A6.into() };
        for packet in [Frame::udp((address, 53), (pod, 40_000)), Frame::tcp((address, 53), (pod, 80), "S")] {
            rig.from_wire(&packet).keeps(&format!("{address}, {class:?}"), &Dropped(MartianSource));
        }
        // Nor while the pod has a flow to it.
        if class == RouteClass::HOST {
            rig.from_pod_a(&Frame::udp((pod, 40_001), (address, 53))).keeps("the pod's question", &Untouched);
            rig.from_wire(&Frame::udp((address, 53), (pod, 40_001))).keeps("a forged answer", &Dropped(MartianSource));
        }
    }
    let stranger: IpAddr = "fe80::dead:beef".parse().unwrap();
    let from_link = Frame::udp((stranger, 53), (IpAddr::V6(Rig::POD_A6), 20_000));
    rig.from_wire(&from_link).keeps("a link-local address", &Dropped(MartianSource));
}

/// A flow between two pods that leads through a service, and so through the stack, counts for the one who opened it.
#[test]
fn flow_between_pods_through_a_service_is_its_openers() {
    for [pod, neighbour, peer, _] in NETS {
        let rig = Rig::with(Constants { pod_flow_share: 3, ..Rig::constants() }, 64);
        let of_pod = Offload { came_by: ifindex("azva"), ..Offload::default() };
        let to_neighbour = |port, flags| {
            let packet = Frame::tcp((pod, port), (neighbour, 80), flags);
            rig.run(Hook::ToEndpoint, "azvb", &packet, of_pod).keeps(flags, &Untouched);
        };
        for port in 1..=3 {
            to_neighbour(port, "S");
            rig.from_pod_b(&Frame::tcp((neighbour, 80), (pod, port), "SA")).keeps("a reply", &Untouched);
            to_neighbour(port, "A");
        }
        let (own, there) = ((neighbour, 20_000), (peer, 443));
        let _ = rig.from_pod_b(&Frame::tcp(own, there, "S"));
        let reply = Frame::tcp(there, own, "SA");
        rig.from_wire(&reply).keeps("the neighbour's own", &ToPod(reply.clone().one_hop_on()));
    }
}

/// No pod gets a port towards the VNet: what the host, or the stack for a pod, has there needs none kept.
#[test]
fn flows_of_the_host_inside_the_vnet_take_no_place() {
    let rig = Rig::new();
    for to in [(Rig::PEER, 80), (Rig::INTERNET, 80)] {
        rig.to_wire(&Frame::tcp((Rig::NODE, 20_000), to, "S")).keeps("the host's SYN", &Untouched);
    }
    assert_eq!((rig.flow_count(), rig.translation_count()), (1, 1));
    let taken = rig.from_pod_a(&Frame::tcp((Rig::POD_A, 20_000), (Rig::INTERNET, 80), "S"));
    assert_ne!(taken.frame.source(), (Rig::NODE, 20_000), "the host holds it");
    let wire = Frame::tcp((Rig::POD_A, 20_000), (Rig::PEER, 80), "S");
    rig.from_pod_a(&wire).keeps("with the pod's address", &ToWire(wire.clone().one_hop_on()));
}

fn flow(rig: &Rig, one: (IpAddr, u16), other: (IpAddr, u16)) -> Flow {
    let found = match (one.0, other.0) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            let key = FlowKey::of(&tuple((a, one.1), (b, other.1), TCP)).0;
            rig.flows().iter().find_map(|flows| flows.get(&key, 0).ok())
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            let key = FlowKey::of(&tuple((a, one.1), (b, other.1), TCP)).0;
            rig.flows6().iter().find_map(|flows| flows.get(&key, 0).ok())
        }
        _ => panic!("two families"),
    };
    found.expect("the flow is known")
}
