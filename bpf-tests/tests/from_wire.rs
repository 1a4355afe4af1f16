//! What arrives at the NIC: into a pod, to the host untouched, or a reply that belongs to a pod.

use std::net::Ipv4Addr;

use azure_cni_common::drop_reason::DropReason::EndpointGone;
use bpf_tests::Promise::{Dropped, Passes, ToPod, Untouched};
use bpf_tests::{Frame, IcmpError, Rig, Verdict};

const A: (Ipv4Addr, u16) = (Rig::POD_A, 8080);
const NODE: (Ipv4Addr, u16) = (Rig::NODE, 20_000);
const INTERNET: (Ipv4Addr, u16) = (Rig::INTERNET, 443);

#[test]
fn packet_for_a_pod_goes_straight_into_it() {
    let rig = Rig::new();
    let senders = [
        ("pod of another VM", (Rig::PEER, 45_000)),
        ("the Internet", INTERNET),
        ("load balancer's probe", (Rig::WIRE_SERVER, 50_000)),
    ];
    for (what, sender) in senders {
        let packets = [
            Frame::tcp(sender, A, "S"),
            Frame::udp(sender, A),
            Frame::echo_request(sender.0, A.0, 9),
            Frame::portless(sender.0, A.0, 50),
            Frame::tcp(sender, A, "S").with_ip_options(&[1; 12]),
            Frame::udp_with_payload(sender, A, &[1; 2000]),
        ];
        for packet in packets {
            rig.from_wire(&packet).keeps(what, &ToPod(packet.clone().one_hop_on()));
        }
    }
}

#[test]
fn what_is_not_for_a_pod_passes_untouched() {
    let rig = Rig::new();
    let cases = [
        ("the host's SSH", Frame::tcp(INTERNET, (Rig::NODE, 22), "S")),
        ("the host's ephemeral port", Frame::tcp(INTERNET, (Rig::NODE, 45_000), "SA")),
        ("a NodePort", Frame::tcp(INTERNET, (Rig::NODE, 30_080), "S")),
        ("port of the NAT range that no flow holds", Frame::tcp(INTERNET, NODE, "SA")),
        ("echo to the node", Frame::echo_request(INTERNET.0, NODE.0, 20_000)),
        ("echo reply that no flow waits for", Frame::echo_reply(INTERNET.0, NODE.0, 20_000)),
        ("ESP to the node", Frame::portless(INTERNET.0, NODE.0, 50)),
        ("another VM", Frame::udp(INTERNET, (Rig::PEER, 53))),
        ("multicast", Frame::udp((Rig::PEER, 5353), (Ipv4Addr::new(224, 0, 0, 251), 5353))),
    ];
    for (what, packet) in cases {
        rig.from_wire(&packet).keeps(what, &Untouched);
    }
    assert_eq!(rig.flow_count(), 0);
}

#[test]
fn only_the_destination_that_a_port_is_held_for_gets_through_it() {
    let rig = Rig::new();
    assert_eq!(rig.from_pod_a(&Frame::udp((Rig::POD_A, 20_000), INTERNET)).verdict, Verdict::ToWire);
    let cases = [
        ("another host", Frame::udp((Ipv4Addr::new(198, 51, 100, 11), 443), NODE)),
        ("another port of the host", Frame::udp((INTERNET.0, 444), NODE)),
        ("another protocol", Frame::tcp(INTERNET, NODE, "SA")),
        ("another port of the node", Frame::udp(INTERNET, (Rig::NODE, 20_001))),
    ];
    for (what, packet) in cases {
        rig.from_wire(&packet).keeps(what, &Untouched);
    }
    let reply = Frame::udp(INTERNET, (Rig::POD_A, 20_000)).one_hop_on();
    rig.from_wire(&Frame::udp(INTERNET, NODE)).keeps("the one it is held for", &ToPod(reply));
}

#[test]
fn reply_for_a_pod_that_is_gone_does_not_reach_the_host() {
    let rig = Rig::new();
    assert_eq!(rig.from_pod_a(&Frame::tcp((Rig::POD_A, 20_000), INTERNET, "S")).verdict, Verdict::ToWire);
    rig.tables().remove_endpoint(Rig::POD_A.into()).unwrap();
    rig.from_wire(&Frame::tcp(INTERNET, NODE, "SA")).keeps("pod removed", &Dropped(EndpointGone));
    rig.tables().scrub(Rig::POD_A.into()).unwrap();
    rig.from_wire(&Frame::tcp(INTERNET, NODE, "SA")).keeps("and scrubbed", &Untouched);
}

#[test]
fn last_hop_is_left_to_the_stack_which_answers_time_exceeded() {
    let rig = Rig::new();
    for hop_limit in [1, 0] {
        let direct = Frame::udp((Rig::PEER, 45_000), A).with_hop_limit(hop_limit);
        rig.from_wire(&direct).keeps(&format!("{hop_limit} to the pod"), &Untouched);
    }
    // The stack must not take a reply for its own: it would reset the connection.
    assert_eq!(rig.from_pod_a(&Frame::udp((Rig::POD_A, 20_000), INTERNET)).verdict, Verdict::ToWire);
    for hop_limit in [1, 0] {
        let reply = Frame::udp(INTERNET, NODE).with_hop_limit(hop_limit);
        let for_pod = Frame::udp(INTERNET, (Rig::POD_A, 20_000)).with_hop_limit(hop_limit);
        rig.from_wire(&reply).keeps(&format!("{hop_limit} in a reply"), &Passes(for_pod));
    }
}

#[test]
fn icmp_messages_that_belong_to_no_flow_are_left_to_the_stack() {
    let rig = Rig::new();
    for destination in [A, NODE] {
        let quoted = Frame::udp(destination, INTERNET);
        for error in IcmpError::ALL {
            let message = Frame::icmp_error(INTERNET.0, destination.0, error, quoted.packet());
            rig.from_wire(&message).keeps(&format!("{error:?} to {destination:?}"), &Untouched);
        }
    }
    assert_eq!(rig.flow_count(), 0);
}
