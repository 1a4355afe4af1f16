//! Programs for nodes whose pods have no IPv6: the same verdicts as those that know IPv6 and have no pod with an address of it.

use std::net::Ipv6Addr;

use azure_cni_common::drop_reason::DropReason;
use azure_cni_common::drop_reason::DropReason::{Malformed, SourceNotOwned, VlanTagged};
use azure_cni_common::endpoint::EndpointEntry;
use azure_cni_datapath::{Constants, DatapathError, Hook};
use bpf_tests::{DESTINATION_OPTIONS, Frame, HOP_BY_HOP, IcmpError, Rig, Verdict, ifindex, locked_bytes};

type End = (Ipv6Addr, u16);

const A: End = (Rig::POD_A6, 20_000);
const B: End = (Rig::POD_B6, 20_000);
const NODE: End = (Rig::NODE6, 20_000);
const PEER: End = (Rig::PEER6, 80);
const INTERNET: End = (Rig::INTERNET6, 443);
const UNSPECIFIED: End = (Ipv6Addr::UNSPECIFIED, 0);
/// What the MAC of pod A makes (RFC 4291, appendix A).
const LINK_LOCAL: End = {
    let [a, b, c, d] = Rig::POD_A.octets();
    let words = [(a as u16) << 8 | 0xff, 0xfe00 | b as u16, (c as u16) << 8 | d as u16];
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, words[0], words[1], words[2]), 9)
};
const ROUTER: End = (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0x1234, 0x5678, 0x9abc), 9);
const ALL_NODES: End = (Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), 5353);
const PADDING: &[u8] = &[0, 0, 1, 4, 0, 0, 0, 0];

/// RFC 4861 section 4.
const ROUTER_SOLICITATION: u8 = 133;
const NEIGHBOR_SOLICITATION: u8 = 135;

/// What, the packet, why a pod may not send it.
type Case = (String, Frame, Option<DropReason>);

fn rig(has_ipv6: bool) -> Rig {
    let rig = Rig::with(Constants { has_ipv6, ..Rig::constants() }, 1024);
    for address in [Rig::POD_A6, Rig::POD_B6] {
        rig.tables().remove_endpoint(address.into()).unwrap();
    }
    rig.add_pod(Rig::POD_A, "azva");
    rig
}

fn well_formed(from: End, to: End) -> Vec<(&'static str, Frame)> {
    let quoted = Frame::udp(to, from);
    let [first, later] = Frame::udp(from, to).in_two(16, 9);
    vec![
        ("UDP", Frame::udp(from, to)),
        ("TCP", Frame::tcp(from, to, "S")),
        ("mid-stream", Frame::tcp(from, to, "A")),
        ("echo", Frame::echo_request(from.0, to.0, 7)),
        ("ESP", Frame::portless(from.0, to.0, 50)),
        ("router solicitation", Frame::icmp_other(from.0, to.0, ROUTER_SOLICITATION)),
        ("neighbour solicitation", Frame::icmp_other(from.0, to.0, NEIGHBOR_SOLICITATION)),
        ("error", Frame::icmp_error(from.0, to.0, IcmpError::PortUnreachable, quoted.packet())),
        ("first fragment", first),
        ("later fragment", later),
        ("options", Frame::udp(from, to).with_extensions(&[(HOP_BY_HOP, PADDING)])),
        ("many options", Frame::udp(from, to).with_extensions(&[(DESTINATION_OPTIONS, PADDING); 5])),
        ("last hop", Frame::udp(from, to).with_hop_limit(1)),
    ]
}

fn malformed(from: End, to: End) -> Vec<(&'static str, Frame)> {
    vec![
        ("version 4", Frame::udp(from, to).with_raw_bytes(0, &[0x45])),
        ("cut", Frame::udp(from, to).cut_to(60)),
        ("short TCP", Frame::tcp(from, to, "S").shortened_to(59)),
        ("short UDP", Frame::udp(from, to).shortened_to(47)),
        ("short options", Frame::udp(from, to).with_extensions(&[(HOP_BY_HOP, PADDING)]).shortened_to(44)),
    ]
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for from in [A, B, NODE, PEER, INTERNET, UNSPECIFIED, LINK_LOCAL, ROUTER] {
        for to in [A, B, NODE, PEER, INTERNET, LINK_LOCAL, ROUTER, ALL_NODES] {
            // The router's is not the address that the pod's MAC makes.
            let is_of_the_link =
                [UNSPECIFIED, LINK_LOCAL].contains(&from) && [LINK_LOCAL, ROUTER, ALL_NODES].contains(&to);
            let reason = (!is_of_the_link).then_some(SourceNotOwned);
            let mut add =
                |what: &str, frame, reason| cases.push((format!("{what}, {} to {}", from.0, to.0), frame, reason));
            well_formed(from, to).into_iter().for_each(|(what, frame)| add(what, frame, reason));
            malformed(from, to).into_iter().for_each(|(what, frame)| add(what, frame, Some(Malformed)));
            add("tagged", Frame::udp(from, to).tagged(5), Some(VlanTagged));
            add("to another machine", Frame::udp(from, to).to_mac([2, 0, 0, 0, 0, 0x77]), None);
        }
    }
    cases
}

#[test]
fn pod_without_ipv6_sends_nothing_of_it_but_the_affairs_of_its_link() {
    for has_ipv6 in [true, false] {
        let rig = rig(has_ipv6);
        for (what, frame, reason) in cases() {
            let outcome = rig.from_pod_a(&frame);
            let verdict = if reason.is_none() { Verdict::Pass } else { Verdict::Drop };
            let what = format!("{what}, has_ipv6 {has_ipv6}");
            assert_eq!((outcome.verdict, outcome.drops), (verdict, Vec::from_iter(reason)), "{what}");
            assert_eq!(outcome.frame, outcome.sent, "{what}");
        }
        assert_eq!(rig.flow_count(), 0);
    }
}

#[test]
fn ipv6_of_the_node_passes_untouched_where_no_pod_has_it() {
    let rig = rig(false);
    for (what, frame, _) in cases() {
        for (hook, outcome) in [
            (Hook::FromWire, rig.from_wire(&frame)),
            (Hook::ToWire, rig.to_wire(&frame)),
            (Hook::ToEndpoint, rig.stack_to_pod_a(&frame)),
        ] {
            assert_eq!((outcome.verdict, outcome.drops.len()), (Verdict::Pass, 0), "{what} at {hook:?}");
            assert_eq!(outcome.frame, outcome.sent, "{what} at {hook:?}");
        }
    }
    assert_eq!((rig.flow_count(), rig.translation_count()), (0, 0));
}

#[test]
fn maps_of_ipv6_take_no_memory_where_no_pod_has_it() {
    let rig = rig(false);
    let pins = std::fs::read_dir(rig.pins().join("maps")).unwrap();
    let names = pins.map(|pin| pin.unwrap().file_name().into_string().unwrap());
    let names: Vec<_> = names.filter(|name| name.ends_with('6')).collect();
    assert!(names.len() >= 8, "{names:?}");
    for name in names {
        let bytes = locked_bytes(&rig.map_data(&name));
        assert!(bytes < 64 * 1024, "{name} takes {bytes} bytes");
    }
    let error = rig.tables().set_endpoint(Rig::POD_A6.into(), EndpointEntry::at(ifindex("azva"))).unwrap_err();
    assert!(matches!(error, DatapathError::NoIpv6), "{error}");
    assert_eq!(rig.tables().set_routes(&Rig::routes()).unwrap().left_out, 0, "nobody asks for routes of IPv6");
    assert!(rig.tables().fills().unwrap().iter().all(|fill| !fill.name.ends_with('6')));
}
