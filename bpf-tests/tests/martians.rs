//! What comes from the wire for a pod with a source that no machine out there has, and for addresses that no pod has.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use azure_cni_common::drop_reason::DropReason::{MartianSource, NoSuchPod};
use azure_cni_common::egress::RouteClass;
use azure_cni_datapath::Hook;
use bpf_tests::Promise::{self, Dropped, ToPod, Untouched};
use bpf_tests::{Frame, IcmpError, Offload, Rig, ifindex};
use ipnet::IpNet;

const PORT: u16 = 20_000;

struct Family {
    pod: IpAddr,
    node: IpAddr,
    internet: IpAddr,
    /// Each with why no packet from another machine has it.
    forged: Vec<(&'static str, IpAddr)>,
}

fn families() -> [Family; 2] {
    let v4 = |a, b, c, d| IpAddr::V4(Ipv4Addr::new(a, b, c, d));
    let v6 = |text: &str| IpAddr::V6(text.parse::<Ipv6Addr>().unwrap());
    [
        Family {
            pod: Rig::POD_A.into(),
            node: Rig::NODE.into(),
            internet: Rig::INTERNET.into(),
            forged: vec![
                ("another pod's", Rig::POD_B.into()),
                ("the receiver's own", Rig::POD_A.into()),
                ("the node's", Rig::NODE.into()),
                ("loopback", v4(127, 0, 0, 1)),
                ("unspecified", v4(0, 0, 0, 0)),
                ("this network", v4(0, 1, 2, 3)),
                ("multicast", v4(224, 0, 0, 251)),
                ("reserved", v4(240, 0, 0, 1)),
                ("broadcast", v4(255, 255, 255, 255)),
            ],
        },
        Family {
            pod: Rig::POD_A6.into(),
            node: Rig::NODE6.into(),
            internet: Rig::INTERNET6.into(),
            forged: vec![
                ("another pod's", Rig::POD_B6.into()),
                ("the receiver's own", Rig::POD_A6.into()),
                ("the node's", Rig::NODE6.into()),
                ("loopback", v6("::1")),
                ("unspecified", v6("::")),
                ("multicast", v6("ff02::fb")),
                ("IPv4 in IPv6", v6("::ffff:10.240.1.2")),
            ],
        },
    ]
}

/// All kinds of packets from one end to the other; the quoted one is as the receiver of the message would have sent it.
fn kinds(from: IpAddr, to: IpAddr, quoted: &Frame) -> Vec<(&'static str, Frame)> {
    let [first, later] = Frame::udp_with_payload((from, 443), (to, PORT), &[7; 1200]).in_two(800, 5);
    vec![
        ("SYN", Frame::tcp((from, 443), (to, PORT), "S")),
        ("segment", Frame::tcp((from, 443), (to, PORT), "A")),
        ("datagram", Frame::udp((from, 443), (to, PORT))),
        ("echo", Frame::echo_request(from, to, PORT)),
        ("echo reply", Frame::echo_reply(from, to, PORT)),
        ("ESP", Frame::portless(from, to, 50)),
        (
            "later fragment without its first",
            Frame::udp_with_payload((from, 9), (to, 9), &[7; 1200]).in_two(800, 6)[1].clone(),
        ),
        ("first fragment", first),
        ("later fragment", later),
        ("ICMP error", Frame::icmp_error(from, to, IcmpError::PortUnreachable, quoted.packet())),
        ("to a group's MAC", Frame::udp((from, 443), (to, PORT)).to_mac([1, 0, 0x5e, 0, 0, 1])),
        ("cut short", Frame::tcp((from, 443), (to, PORT), "S").shortened_to(if from.is_ipv4() { 30 } else { 50 })),
    ]
}

#[test]
fn packet_for_a_pod_from_a_source_that_is_not_outside_is_dropped_and_counted() {
    let rig = Rig::new();
    for Family { pod, internet, forged, .. } in families() {
        let question = Frame::udp((pod, PORT), (internet, 443));
        for (why, source) in forged {
            for (what, frame) in kinds(source, pod, &question) {
                rig.from_wire(&frame).keeps(&format!("{why} as the source of: {what}"), &Dropped(MartianSource));
            }
        }
    }
    assert_eq!(rig.flow_count(), 0, "a forged packet left a trace");
}

/// A pod's flow may have any destination: a holder of the port is no reason to believe its peer.
#[test]
fn packet_for_a_port_that_a_pod_holds_from_a_source_that_is_not_outside_is_dropped_and_counted() {
    let rig = Rig::new();
    // Towards everything the source is translated, and nothing is told apart by where it is.
    rig.tables().set_routes(&BTreeMap::new()).unwrap();
    for Family { pod, node, forged, .. } in families() {
        for (why, source) in forged.into_iter().filter(|(_, source)| *source != pod) {
            let from_pod = Frame::udp((pod, PORT), (source, 443));
            let opened = rig.from_pod_a(&from_pod).verdict;
            let reply = Frame::udp((source, 443), (node, PORT));
            let promise = if opened == bpf_tests::Verdict::ToWire { Dropped(MartianSource) } else { Untouched };
            rig.from_wire(&reply).keeps(&format!("{why}, flow {opened:?}"), &promise);
        }
    }
}

#[test]
fn what_is_for_the_host_is_left_to_its_stack_whatever_its_source() {
    let rig = Rig::new();
    for Family { node, pod, forged, .. } in families() {
        let sent = Frame::udp((node, 4000), (pod, 443));
        for (why, source) in forged {
            for (what, frame) in kinds(source, node, &sent) {
                // It waits for its first as others do.
                if what != "later fragment without its first" {
                    rig.from_wire(&frame).keeps(&format!("{why} as the source of: {what}"), &Untouched);
                }
            }
        }
    }
}

/// The stack takes the tag of VLAN 0 off, and forwards; its own check is off or loose where pods are.
#[test]
fn pods_address_from_the_wire_does_not_reach_a_pod_through_the_stack() {
    let rig = Rig::new();
    let from_wire = Offload { came_by: ifindex("uplink"), ..Offload::default() };
    let from_pod = Offload { came_by: ifindex("azvb"), ..Offload::default() };
    let pairs: [(IpAddr, IpAddr, IpAddr); 2] = [
        (Rig::POD_A.into(), Rig::POD_B.into(), Rig::PEER.into()),
        (Rig::POD_A6.into(), Rig::POD_B6.into(), Rig::PEER6.into()),
    ];
    for (pod, neighbour, peer) in pairs {
        let to_pod =
            |from: IpAddr, offload| rig.run(Hook::ToEndpoint, "azva", &Frame::udp((from, 53), (pod, PORT)), offload);
        to_pod(neighbour, from_wire).keeps("a neighbour's address from the wire", &Dropped(MartianSource));
        to_pod(pod, from_wire).keeps("its own address from the wire", &Dropped(MartianSource));
        to_pod(neighbour, from_pod).keeps("a neighbour", &Untouched);
        to_pod(peer, from_wire).keeps("a pod of another VM", &Untouched);
    }
}

/// Addresses of the pool that no pod has.
const UNUSED: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(10, 240, 1, 99)), IpAddr::V6(Ipv6Addr::new(0xfd00, 0x10, 0x240, 1, 0, 0, 0, 0x99))];

fn with_pool(rig: &Rig) {
    let mut routes = Rig::routes();
    let in_use: [IpAddr; 4] = [Rig::POD_A.into(), Rig::POD_B.into(), Rig::POD_A6.into(), Rig::POD_B6.into()];
    routes.extend(UNUSED.into_iter().chain(in_use).map(|address| (IpNet::from(address), RouteClass::POOL)));
    rig.tables().set_routes(&routes).unwrap();
}

#[test]
fn packet_for_an_address_of_the_pool_that_no_pod_has_is_dropped_wherever_it_comes_from() {
    let rig = Rig::new();
    with_pool(&rig);
    for (Family { pod, internet, .. }, unused) in families().into_iter().zip(UNUSED) {
        let sent = Frame::udp((unused, PORT), (internet, 443));
        for (what, frame) in kinds(internet, unused, &sent) {
            rig.from_wire(&frame).keeps(&format!("from the wire: {what}"), &Dropped(NoSuchPod));
        }
        let received = Frame::udp((unused, PORT), (pod, 443));
        for (what, frame) in kinds(pod, unused, &received) {
            let from_pod: Option<Promise> = match what {
                // What the stack is left with is stopped at the wire.
                "ICMP error" | "to a group's MAC" => Some(Untouched),
                "cut short" => None,
                _ => Some(Dropped(NoSuchPod)),
            };
            if let Some(promise) = from_pod {
                rig.from_pod_a(&frame).keeps(&format!("from a pod: {what}"), &promise);
                let at_the_wire = rig.forwarded_to_wire("azva", &frame);
                if what != "to a group's MAC" {
                    at_the_wire.keeps(&format!("from a pod, at the wire: {what}"), &Dropped(NoSuchPod));
                }
            }
        }
    }
    assert_eq!(rig.flow_count(), 0);
}

#[test]
fn pod_is_found_before_the_route_of_its_address() {
    let rig = Rig::new();
    with_pool(&rig);
    for (Family { pod, internet, .. }, late) in families().into_iter().zip(UNUSED) {
        let inbound = Frame::udp((internet, 443), (pod, PORT));
        rig.from_wire(&inbound).keeps("has its address", &ToPod(inbound.clone().one_hop_on()));
        let to_late = Frame::udp((internet, 443), (late, PORT));
        rig.from_wire(&to_late).keeps("not here yet", &Dropped(NoSuchPod));
        rig.add_pod(late, "azvb");
        rig.from_wire(&to_late).keeps("here now", &ToPod(to_late.clone().one_hop_on()));
        let local = Frame::udp((pod, PORT), (late, 53));
        rig.from_pod_a(&local).keeps("from its neighbour", &ToPod(local.clone().one_hop_on()));
        rig.tables().remove_endpoint(late).unwrap();
        rig.from_pod_a(&local).keeps("gone, while its flow is known", &Dropped(NoSuchPod));
        let out = Frame::udp((pod, 9), (internet, 443));
        assert_eq!(rig.from_pod_a(&out).verdict, bpf_tests::Verdict::ToWire);
    }
}

#[test]
fn packet_for_a_service_with_an_address_of_the_pool_goes_up_and_never_out_again() {
    let rig = Rig::new();
    let mut routes = Rig::routes();
    routes.extend(UNUSED.map(|address| (IpNet::from(address), RouteClass::POOL_BY_HOST)));
    rig.tables().set_routes(&routes).unwrap();
    for (Family { pod, internet, .. }, service) in families().into_iter().zip(UNUSED) {
        let sent = Frame::udp((service, PORT), (internet, 443));
        for (what, frame) in kinds(internet, service, &sent) {
            rig.from_wire(&frame).keeps(&format!("from the wire: {what}"), &Untouched);
            if !["cut short", "to a group's MAC"].contains(&what) {
                let back = rig.forwarded_to_wire("uplink", &frame);
                back.keeps(&format!("on its way back: {what}"), &Dropped(NoSuchPod));
            }
        }
        let asked = Frame::udp((pod, PORT), (service, 80));
        rig.from_pod_a(&asked).keeps("from a pod", &Untouched);
        rig.forwarded_to_wire("azva", &asked).keeps("from a pod, at the wire", &Dropped(NoSuchPod));
        let forged = Frame::udp((service, 80), (pod, PORT));
        rig.from_wire(&forged).keeps("with the service's address, from the wire", &Dropped(MartianSource));
    }
}
