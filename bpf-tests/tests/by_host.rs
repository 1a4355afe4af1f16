//! Destinations about which the host's stack decides, because rules or routes of the node name them: services, other networks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use azure_cni_common::egress::RouteClass;
use bpf_tests::Promise::{Passes, ToPod, ToWire, Untouched};
use bpf_tests::{Frame, Rig};
use ipnet::IpNet;

const A: (Ipv4Addr, u16) = (Rig::POD_A, 20_000);
const NODE: (Ipv4Addr, u16) = (Rig::NODE, 20_000);
/// In the VNet's prefix.
const BALANCER: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 240, 9, 9), 80);
const PUBLIC: (Ipv4Addr, u16) = (Ipv4Addr::new(203, 0, 113, 99), 80);
const BALANCER6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0x240, 0, 0, 0, 0x99, 9);

fn with_services(rig: &Rig) {
    let mut routes = Rig::routes();
    for (address, class) in [
        (IpAddr::from(BALANCER.0), RouteClass::VNET_BY_HOST),
        (IpAddr::from(BALANCER6), RouteClass::VNET_BY_HOST),
        (IpAddr::from(PUBLIC.0), RouteClass::INTERNET_BY_HOST),
    ] {
        routes.insert(IpNet::from(address), class);
    }
    rig.tables().set_routes(&routes).unwrap();
}

#[test]
fn what_rules_name_goes_up_the_stack_and_what_it_leaves_alone_goes_where_it_belongs() {
    let rig = Rig::new();
    with_services(&rig);
    for (what, to, source) in [("VNet", BALANCER, A), ("Internet", PUBLIC, NODE)] {
        for (kind, packet, out) in [
            ("SYN", Frame::tcp(A, to, "S"), Frame::tcp(source, to, "S")),
            ("datagram", Frame::udp(A, to), Frame::udp(source, to)),
        ] {
            rig.from_pod_a(&packet).keeps(&format!("{what}: {kind}"), &Untouched);
            rig.from_pod_a(&packet).keeps(&format!("{what}: {kind}, again"), &Untouched);
            rig.to_wire(&packet).keeps(&format!("{what}: {kind}, at the wire"), &Passes(out));
        }
    }
}

#[test]
fn ipv6_address_of_a_service_in_the_vnet_goes_up_the_stack() {
    let rig = Rig::new();
    with_services(&rig);
    let packet = Frame::tcp((Rig::POD_A6, 20_000), (BALANCER6, 80), "S");
    rig.from_pod_a(&packet).keeps("SYN", &Untouched);
    rig.to_wire(&packet).keeps("at the wire", &Passes(packet.clone()));
}

#[test]
fn flow_keeps_its_way_when_its_destination_becomes_a_services_and_when_it_is_one_no_more() {
    let rig = Rig::new();
    let out = |flags| ToWire(Frame::tcp(A, BALANCER, flags).one_hop_on());
    rig.from_pod_a(&Frame::tcp(A, BALANCER, "S")).keeps("opened", &out("S"));
    with_services(&rig);
    rig.from_pod_a(&Frame::tcp(A, BALANCER, "A")).keeps("goes on", &out("A"));
    let reply = Frame::tcp(BALANCER, A, "SA");
    rig.from_wire(&reply).keeps("reply", &ToPod(reply.clone().one_hop_on()));

    let other = (Rig::POD_A, 20_001);
    rig.from_pod_a(&Frame::tcp(other, BALANCER, "S")).keeps("another flow", &Untouched);
    rig.tables().set_routes(&Rig::routes()).unwrap();
    rig.from_pod_a(&Frame::tcp(other, BALANCER, "A")).keeps("goes on too", &Untouched);
    let reply = Frame::tcp(BALANCER, other, "SA");
    rig.from_wire(&reply).keeps("its reply comes up", &Untouched);
}
