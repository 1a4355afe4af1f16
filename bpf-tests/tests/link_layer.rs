//! Frames that the host's stack would take in although they are not plain: no way around the check of the source.

use std::net::Ipv4Addr;

use azure_cni_common::drop_reason::DropReason::{Malformed, SourceNotOwned, VlanTagged};
use bpf_tests::Fate::{Delivered, Dropped};
use bpf_tests::{Frame, Rig};

const PORT: u16 = 5300;
const OWN: (Ipv4Addr, u16) = (Rig::POD_A, 20_000);
const FOREIGN: (Ipv4Addr, u16) = (Rig::POD_B, 20_000);

#[test]
fn foreign_source_does_not_reach_the_host_in_whatever_frame() {
    let mut rig = Rig::new();
    let cable = rig.plug_in_pod_a(PORT);
    let (own, foreign) = (Frame::udp(OWN, cable.host()), Frame::udp(FOREIGN, cable.host()));
    let ipv6 = Frame::udp((Rig::POD_A6, 20_000), (Rig::NODE6, PORT));
    let cases = [
        ("own source", own.clone(), Delivered),
        ("foreign source", foreign.clone(), Dropped(SourceNotOwned)),
        ("own source, to all", own.clone().to_mac([0xff; 6]), Delivered),
        ("foreign source, to all", foreign.clone().to_mac([0xff; 6]), Dropped(SourceNotOwned)),
        ("foreign source, to a group", foreign.clone().to_mac([1, 0, 0x5e, 0, 0, 1]), Dropped(SourceNotOwned)),
        // IEEE 802.1Q: VLAN 0 is "no VLAN", the tag carries a priority; the stack takes it off, twice if need be.
        ("priority tag", foreign.clone().tagged(0), Dropped(VlanTagged)),
        ("priority tag with a priority", foreign.clone().tagged(0xe000), Dropped(VlanTagged)),
        ("two priority tags", foreign.clone().tagged(0).tagged(0), Dropped(VlanTagged)),
        ("VLAN tag", foreign.clone().tagged(5), Dropped(VlanTagged)),
        ("own source, VLAN tag", own.tagged(5), Dropped(VlanTagged)),
        ("frame that ends in the IP header", foreign.clone().cut_to(19), Dropped(Malformed)),
        ("frame that ends in the IPv6 header", ipv6.cut_to(39), Dropped(Malformed)),
        ("frame without a packet", foreign.cut_to(0), Dropped(Malformed)),
    ];
    for (what, frame, fate) in cases {
        assert_eq!(cable.send(&frame), fate, "{what}");
    }
}

#[test]
fn host_agent_of_the_platform_is_out_of_reach_in_whatever_frame() {
    let mut rig = Rig::with_services_unknown();
    let cable = rig.plug_in_pod_a(PORT);
    let frame = Frame::tcp(OWN, (Rig::WIRE_SERVER, 80), "S");
    assert_eq!(cable.send(&frame.clone().tagged(0)), Dropped(VlanTagged));
    assert_eq!(cable.send(&frame.tagged(0).tagged(0)), Dropped(VlanTagged));
}
