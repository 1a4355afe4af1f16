//! What changes a pod's way or source besides the destination: its own flags, and what the agent is configured to keep
//! from pods.

use std::net::Ipv4Addr;

use azure_cni_common::drop_reason::DropReason::{MetadataBlocked, PlatformBlocked};
use azure_cni_common::egress::RouteClass;
use azure_cni_common::endpoint::EndpointFlags;
use azure_cni_datapath::Constants;
use bpf_tests::Promise::{Dropped, Passes, ToPod, ToWire, Untouched};
use bpf_tests::{Frame, Rig};

const A: (Ipv4Addr, u16) = (Rig::POD_A, 20_000);
const NODE: (Ipv4Addr, u16) = (Rig::NODE, 20_000);
const PEER: (Ipv4Addr, u16) = (Rig::PEER, 80);
const INTERNET: (Ipv4Addr, u16) = (Rig::INTERNET, 443);
const METADATA: (Ipv4Addr, u16) = (Ipv4Addr::new(169, 254, 169, 254), 80);
const DNS: (Ipv4Addr, u16) = (Rig::WIRE_SERVER, 53);

fn keep_source_of_a(rig: &Rig) {
    let endpoint = Rig::endpoint(Rig::POD_A, "azva").with_flags(EndpointFlags::KEEP_SOURCE);
    rig.tables().set_endpoint(Rig::POD_A.into(), endpoint).unwrap();
}

fn with_platform_routes(rig: &Rig) {
    let mut routes = Rig::routes();
    for address in [METADATA.0, DNS.0] {
        routes.insert(ipnet::IpNet::from(std::net::IpAddr::from(address)), RouteClass::PLATFORM);
    }
    rig.tables().set_routes(&routes).unwrap();
}

#[test]
fn pod_with_a_public_address_keeps_it_towards_the_internet_and_not_towards_the_platform() {
    let rig = Rig::new();
    with_platform_routes(&rig);
    keep_source_of_a(&rig);
    let own = |to| ToWire(Frame::tcp(A, to, "S").one_hop_on());
    let nodes = |to| ToWire(Frame::tcp(NODE, to, "S").one_hop_on());
    for (what, to, promise) in [
        ("Internet", INTERNET, own(INTERNET)),
        ("VNet", PEER, own(PEER)),
        ("metadata service", METADATA, nodes(METADATA)),
        ("DNS", DNS, nodes(DNS)),
    ] {
        rig.from_pod_a(&Frame::tcp(A, to, "S")).keeps(what, &promise);
        rig.from_pod_a(&Frame::tcp(A, to, "S")).keeps(&format!("{what}, the same again"), &promise);
    }
    let reply = Frame::tcp(INTERNET, A, "SA");
    rig.from_wire(&reply).keeps("reply from the Internet", &ToPod(reply.clone().one_hop_on()));
    let reply = ToPod(Frame::tcp(METADATA, A, "SA").one_hop_on());
    rig.from_wire(&Frame::tcp(METADATA, NODE, "SA")).keeps("reply of the metadata service", &reply);

    let b = (Rig::POD_B, 20_000);
    let other = rig.from_pod_b(&Frame::tcp(b, INTERNET, "S"));
    other.keeps("another pod", &ToWire(Frame::tcp(NODE, INTERNET, "S").one_hop_on()));
}

#[test]
fn pod_with_a_public_address_keeps_it_through_the_stack_too() {
    let rig = Rig::with_services_unknown();
    keep_source_of_a(&rig);
    let cases = [
        ("TCP", Frame::tcp(A, INTERNET, "S")),
        ("UDP", Frame::udp(A, INTERNET)),
        ("later fragment", Frame::udp(A, INTERNET).fragment(false, 100)),
    ];
    for (what, packet) in cases {
        rig.from_pod_a(&packet).keeps(what, &Untouched);
        rig.to_wire(&packet).keeps(&format!("{what}, at the wire"), &Untouched);
    }
    assert_eq!(rig.translation_count(), 0);
}

#[test]
fn platform_takes_the_short_way_although_services_are_unknown() {
    let rig = Rig::with_services_unknown();
    with_platform_routes(&rig);
    for to in [METADATA, DNS] {
        let out = ToWire(Frame::udp(NODE, to).one_hop_on());
        rig.from_pod_a(&Frame::udp(A, to)).keeps(&format!("{to:?}"), &out);
        let back = ToPod(Frame::udp(to, A).one_hop_on());
        rig.from_wire(&Frame::udp(to, NODE)).keeps(&format!("{to:?}"), &back);
    }
    rig.from_pod_a(&Frame::udp(A, INTERNET)).keeps("all else", &Untouched);
}

#[test]
fn metadata_service_is_kept_from_pods_where_it_is_asked_for() {
    let rig = Rig::with(Constants { block_imds: true, ..Rig::constants() }, 1024);
    with_platform_routes(&rig);
    let other_port = (METADATA.0, 8080);
    let cases = [
        ("SYN", Frame::tcp(A, METADATA, "S"), Dropped(MetadataBlocked)),
        ("mid-stream", Frame::tcp(A, METADATA, "A"), Dropped(MetadataBlocked)),
        ("with options", Frame::tcp(A, METADATA, "S").with_ip_options(&[1; 40]), Dropped(MetadataBlocked)),
        ("host agent", Frame::tcp(A, (Rig::WIRE_SERVER, 80), "S"), Dropped(PlatformBlocked)),
        ("another port", Frame::tcp(A, other_port, "S"), ToWire(Frame::tcp(NODE, other_port, "S").one_hop_on())),
        ("DNS", Frame::udp(A, DNS), ToWire(Frame::udp(NODE, DNS).one_hop_on())),
    ];
    for (what, packet, promise) in cases {
        rig.from_pod_a(&packet).keeps(what, &promise);
    }
    // Through a service whose backend it is.
    rig.to_wire(&Frame::tcp(A, METADATA, "S")).keeps("at the wire", &Dropped(MetadataBlocked));
    rig.to_wire(&Frame::udp(A, (Ipv4Addr::new(203, 0, 113, 3), 9)))
        .keeps("all else at the wire", &Passes(Frame::udp(NODE, (Ipv4Addr::new(203, 0, 113, 3), 9))));
    // The host itself may.
    rig.to_wire(&Frame::tcp((Rig::NODE, 45_000), METADATA, "S")).keeps("the host", &Untouched);
}

#[test]
fn translated_flow_goes_on_to_the_internet_whatever_pod_has_come_there_since() {
    let rig = Rig::new();
    let translated = |flags| ToWire(Frame::tcp(NODE, INTERNET, flags).one_hop_on());
    rig.from_pod_a(&Frame::tcp(A, INTERNET, "S")).keeps("opened", &translated("S"));
    rig.add_pod(Rig::INTERNET, "azvb");
    rig.from_pod_a(&Frame::tcp(A, INTERNET, "A")).keeps("goes on", &translated("A"));
    let new = (Rig::POD_A, 20_001);
    rig.from_pod_a(&Frame::tcp(new, INTERNET, "S"))
        .keeps("another flow", &ToPod(Frame::tcp(new, INTERNET, "S").one_hop_on()));
}
