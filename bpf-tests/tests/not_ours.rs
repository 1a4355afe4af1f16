//! What is not ours passes untouched: other protocols, tagged frames, frames for other machines.

use std::net::Ipv4Addr;

use azure_cni_common::drop_reason::DropReason::SourceNotOwned;
use bpf_tests::Promise::{Dropped, Untouched};
use bpf_tests::{Frame, Rig};

const A: (Ipv4Addr, u16) = (Rig::POD_A, 20_000);
const PEER: (Ipv4Addr, u16) = (Rig::PEER, 80);
const OTHER_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x77];
const BROADCAST_MAC: [u8; 6] = [0xff; 6];
const MULTICAST_MAC: [u8; 6] = [0x01, 0, 0x5e, 0, 0, 0xfb];

#[test]
fn other_protocols_pass_every_program_untouched() {
    let rig = Rig::new();
    let packet = Frame::udp(A, PEER);
    let cases = [
        ("LLDP", packet.clone().with_ethertype(0x88cc)),
        ("MPLS", packet.clone().with_ethertype(0x8847)),
        ("802.3 length instead of a type", packet.clone().with_ethertype(0x0030)),
        ("to another machine's MAC", packet.to_mac(OTHER_MAC)),
    ];
    for (what, frame) in cases {
        rig.from_pod_a(&frame).keeps(&format!("{what} from a pod"), &Untouched);
        rig.stack_to_pod_a(&frame).keeps(&format!("{what} to a pod"), &Untouched);
        rig.from_wire(&frame).keeps(&format!("{what} from the wire"), &Untouched);
        rig.to_wire(&frame).keeps(&format!("{what} to the wire"), &Untouched);
    }
    assert_eq!(rig.flow_count(), 0);
}

#[test]
fn tagged_frames_pass_uplink_and_stack_untouched() {
    let rig = Rig::new();
    for vlan in [0, 5, 0x2000 | 7] {
        let frame = Frame::udp(PEER, A).tagged(vlan);
        rig.from_wire(&frame).keeps("from the wire", &Untouched);
        rig.to_wire(&Frame::udp(A, PEER).tagged(vlan)).keeps("to the wire", &Untouched);
        rig.stack_to_pod_a(&frame).keeps("to a pod", &Untouched);
    }
}

#[test]
fn frames_to_all_are_the_stacks() {
    let rig = Rig::new();
    for mac in [BROADCAST_MAC, MULTICAST_MAC] {
        rig.from_wire(&Frame::udp(PEER, A).to_mac(mac)).keeps("from the wire", &Untouched);
        rig.from_pod_a(&Frame::udp(A, PEER).to_mac(mac)).keeps("from a pod", &Untouched);
        let dhcp = Frame::udp(A, (Ipv4Addr::BROADCAST, 67)).to_mac(mac);
        rig.from_pod_a(&dhcp).keeps("from a pod to all", &Untouched);
    }
    assert_eq!(rig.flow_count(), 0);
}

/// The stack takes in a packet for one of the host's addresses whatever MAC its frame went to.
#[test]
fn frame_to_all_does_not_hide_a_foreign_source() {
    let rig = Rig::new();
    for mac in [BROADCAST_MAC, MULTICAST_MAC] {
        let spoofed = Frame::udp((Rig::POD_B, 53), (Rig::NODE, 53)).to_mac(mac);
        rig.from_pod_a(&spoofed).keeps("another pod's address", &Dropped(SourceNotOwned));
    }
}
