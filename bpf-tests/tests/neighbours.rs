//! What pods say of their link: nothing that would fill the host's table of neighbours.

use std::net::{Ipv4Addr, Ipv6Addr};

use azure_cni_common::drop_reason::DropReason::{ArpNotOwned, SourceNotOwned, VlanTagged};
use azure_cni_common::endpoint::link_local;
use bpf_tests::Promise::{Dropped, Untouched};
use bpf_tests::{Frame, Rig};

const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
const FORGED: [u8; 6] = [2, 0, 0, 0, 0, 0x66];
const REQUEST: u16 = 1;
const REPLY: u16 = 2;

#[test]
fn pod_says_in_arp_that_it_has_its_own_address_at_its_own_mac() {
    let rig = Rig::new();
    let mac = Rig::pod_mac(Rig::POD_A);
    for operation in [REQUEST, REPLY] {
        let arp = |of_frame, at, sender| Frame::arp(operation, of_frame, (at, sender), GATEWAY);
        let not_owned = Dropped(ArpNotOwned);
        let honest = arp(mac, mac, Rig::POD_A);
        let cases = [
            ("its own", honest.clone(), Untouched),
            ("none yet", arp(mac, mac, Ipv4Addr::UNSPECIFIED), Untouched),
            ("padded to the shortest frame", honest.clone().padded(18), Untouched),
            ("another pod's", arp(mac, mac, Rig::POD_B), not_owned.clone()),
            ("the node's", arp(mac, mac, Rig::NODE), not_owned.clone()),
            ("the gateway's", arp(mac, mac, GATEWAY), not_owned.clone()),
            ("nobody's", arp(mac, mac, Ipv4Addr::new(10, 9, 9, 9)), not_owned.clone()),
            ("its own at another MAC", arp(mac, FORGED, Rig::POD_A), not_owned.clone()),
            ("of another hardware", honest.clone().with_raw_bytes(1, &[6]), not_owned.clone()),
            ("of another protocol", honest.clone().with_raw_bytes(2, &[0x86, 0xdd]), not_owned.clone()),
            ("with longer addresses", honest.clone().with_raw_bytes(4, &[8]), not_owned.clone()),
            ("cut short", honest.clone().cut_to(17), not_owned),
            ("behind a tag", honest.tagged(0), Dropped(VlanTagged)),
        ];
        for (what, frame, promise) in cases {
            rig.from_pod_a(&frame).keeps(&format!("{what}, operation {operation}"), &promise);
        }
        let other = arp(mac, mac, Rig::POD_B);
        rig.from_wire(&other).keeps("from the wire", &Untouched);
        rig.stack_to_pod_a(&other).keeps("to a pod", &Untouched);
        rig.to_wire(&other).keeps("to the wire", &Untouched);
    }
}

/// RFC 4861 section 4: router and neighbour solicitation, neighbour advertisement.
const DISCOVERY: [u8; 3] = [133, 135, 136];

#[test]
fn pod_speaks_on_its_link_from_its_own_addresses_only() {
    let rig = Rig::new();
    // Both families of a pod have one MAC; the rig's last one counts.
    let own = link_local(Rig::pod_mac(Rig::POD_A6)).octets().into();
    let node: Ipv6Addr = "fe80::a8aa:aaff:feaa:aaaa".parse().unwrap();
    let foreign = Dropped(SourceNotOwned);
    let cases: [(&str, Ipv6Addr, _); 7] = [
        ("made of its MAC", own, Untouched),
        ("its own", Rig::POD_A6, Untouched),
        ("none yet", Ipv6Addr::UNSPECIFIED, Untouched),
        ("another link-local one", "fe80::66".parse().unwrap(), foreign.clone()),
        ("made of another MAC", link_local(FORGED).octets().into(), foreign.clone()),
        ("another pod's", Rig::POD_B6, foreign.clone()),
        ("the router's", "fe80::1234:5678:9abc".parse().unwrap(), foreign),
    ];
    for (what, source, promise) in cases {
        for to in ["ff02::1", "ff02::1:ff00:1"].map(|text| text.parse().unwrap()).into_iter().chain([node]) {
            for kind in DISCOVERY {
                rig.from_pod_a(&Frame::icmp_other(source, to, kind)).keeps(&format!("{what}, type {kind}"), &promise);
            }
            // The host would look for the sender to answer it.
            rig.from_pod_a(&Frame::echo_request(source, to, 7)).keeps(&format!("{what}, echo"), &promise);
            rig.from_pod_a(&Frame::udp((source, 5353), (to, 5353))).keeps(&format!("{what}, UDP"), &promise);
        }
    }
}

#[test]
fn link_local_address_is_known_as_long_as_the_pod_has_any_other() {
    let mut rig = Rig::new();
    let forged = Frame::icmp_other("fe80::66".parse::<Ipv6Addr>().unwrap(), "ff02::1".parse().unwrap(), 135);
    rig.tables().remove_endpoint(Rig::POD_A6.into()).unwrap();
    rig.from_pod_a(&forged).keeps("one address left", &Dropped(SourceNotOwned));
    rig.restart_agent();
    rig.from_pod_a(&forged).keeps("known to the next agent", &Dropped(SourceNotOwned));
    rig.tables().remove_endpoint(Rig::POD_A.into()).unwrap();
    rig.from_pod_a(&forged).keeps("not a pod yet, or no more", &Untouched);
    rig.from_pod_b(&forged).keeps("another pod", &Dropped(SourceNotOwned));
}
