//! What reaches a pod through the host's stack, and that its replies go back the same way.

use std::net::Ipv4Addr;

use bpf_tests::Promise::{Passes, ToPod, ToWire, Untouched};
use bpf_tests::{Frame, Rig, tuple};

const A: (Ipv4Addr, u16) = (Rig::POD_A, 8080);
const TCP: u8 = 6;

#[test]
fn reply_to_what_came_through_the_stack_goes_through_the_stack() {
    let rig = Rig::new();
    let initiators = [
        ("the host", (Rig::NODE, 45_000)),
        ("a pod here, through a service", (Rig::POD_B, 45_000)),
        ("a pod of another VM, through a NodePort", (Rig::PEER, 45_000)),
        ("the Internet, through a hostPort", (Rig::INTERNET, 45_000)),
    ];
    for (who, initiator) in initiators {
        rig.stack_to_pod_a(&Frame::tcp(initiator, A, "S")).keeps(who, &Untouched);
        for flags in ["SA", "A", "FA"] {
            rig.from_pod_a(&Frame::tcp(A, initiator, flags)).keeps(&format!("{flags} to {who}"), &Untouched);
        }
        rig.stack_to_pod_a(&Frame::tcp(initiator, A, "A")).keeps(who, &Untouched);
    }
}

#[test]
fn reply_through_the_stack_leaves_the_node_with_the_pods_address() {
    let rig = Rig::new();
    let initiator = (Rig::INTERNET, 45_000);
    rig.stack_to_pod_a(&Frame::udp(initiator, A)).keeps("question", &Untouched);
    rig.from_pod_a(&Frame::udp(A, initiator)).keeps("reply", &Untouched);
    rig.to_wire(&Frame::udp(A, initiator)).keeps("reply at the wire", &Untouched);
    assert_eq!(rig.translation_count(), 0);
}

#[test]
fn nothing_is_held_back_or_changed_on_its_way_into_the_pod() {
    let rig = Rig::new();
    let initiator = (Rig::NODE, 45_000);
    let cases = [
        ("segment", Frame::tcp(initiator, A, "S")),
        ("datagram", Frame::udp(initiator, A)),
        ("echo", Frame::echo_request(initiator.0, A.0, 7)),
        ("last hop", Frame::udp(initiator, A).with_hop_limit(1)),
        ("no hop", Frame::udp(initiator, A).with_hop_limit(0)),
        ("longer than the uplink takes", Frame::udp_with_payload(initiator, A, &[1; 2000])),
        ("fragment", Frame::udp(initiator, A).fragment(true, 0)),
        ("to a pod of another veth", Frame::udp(initiator, (Rig::POD_B, 53))),
        ("to no pod", Frame::udp(initiator, (Rig::PEER, 53))),
        ("multicast", Frame::udp(initiator, (Ipv4Addr::new(224, 0, 0, 251), 5353))),
    ];
    for (what, packet) in cases {
        rig.stack_to_pod_a(&packet).keeps(what, &Untouched);
    }
}

#[test]
fn reply_through_the_stack_to_a_pods_own_flow_keeps_its_way() {
    let rig = Rig::with_services_unknown();
    let service = (Ipv4Addr::new(10, 0, 0, 10), 80);
    let backend = (Rig::PEER, 80);
    rig.from_pod_a(&Frame::tcp(A, service, "S")).keeps("to the service", &Untouched);
    // The stack has chosen a backend.
    rig.to_wire(&Frame::tcp(A, backend, "S").one_hop_on()).keeps("to the backend", &Untouched);
    rig.from_wire(&Frame::tcp(backend, A, "SA")).keeps("the backend's reply", &Untouched);
    rig.stack_to_pod_a(&Frame::tcp(service, A, "SA")).keeps("the service's reply", &Untouched);
    rig.from_pod_a(&Frame::tcp(A, service, "A")).keeps("on it goes", &Untouched);
    assert_eq!(rig.translation_count(), 0);
}

#[test]
fn service_whose_backend_is_a_pod_here_is_answered_through_the_stack() {
    let rig = Rig::with_services_unknown();
    let service = (Ipv4Addr::new(10, 0, 0, 10), 80);
    let backend = (Rig::POD_B, 80);
    rig.from_pod_a(&Frame::tcp(A, service, "S")).keeps("to the service", &Untouched);
    rig.stack_to_pod_b(&Frame::tcp(A, backend, "S")).keeps("to the backend", &Untouched);
    rig.from_pod_b(&Frame::tcp(backend, A, "SA")).keeps("the backend's reply", &Untouched);
    rig.stack_to_pod_a(&Frame::tcp(service, A, "SA")).keeps("the service's reply", &Untouched);

    let direct = Frame::tcp((Rig::POD_A, 8081), backend, "S");
    rig.from_pod_a(&direct).keeps("without the service", &ToPod(direct.clone().one_hop_on()));
}

#[test]
fn hairpin_of_a_pod_through_its_own_service_is_answered_through_the_stack() {
    let rig = Rig::with_services_unknown();
    let (service, node) = ((Ipv4Addr::new(10, 0, 0, 10), 80), (Rig::NODE, 33_000));
    let backend = (Rig::POD_A, 80);
    rig.from_pod_a(&Frame::tcp(A, service, "S")).keeps("to the service", &Untouched);
    // The stack has put its own address there, as it must.
    rig.stack_to_pod_a(&Frame::tcp(node, backend, "S")).keeps("back to the pod", &Untouched);
    rig.from_pod_a(&Frame::tcp(backend, node, "SA")).keeps("its reply", &Untouched);
}

#[test]
fn flow_that_left_through_the_stack_comes_back_through_it() {
    let rig = Rig::with_services_unknown();
    let (initiator, internet, node) = ((Rig::POD_A, 20_000), (Rig::INTERNET, 443), (Rig::NODE, 20_000));
    let syn = Frame::tcp(initiator, internet, "S");
    rig.from_pod_a(&syn).keeps("up the stack", &Untouched);
    let left = Frame::tcp(node, internet, "S").one_hop_on();
    rig.to_wire(&syn.one_hop_on()).keeps("out of the uplink", &Passes(left));

    let reply = Frame::tcp(internet, initiator, "SA");
    rig.from_wire(&Frame::tcp(internet, node, "SA")).keeps("its reply", &Passes(reply.clone()));
    rig.stack_to_pod_a(&reply.one_hop_on()).keeps("into the pod", &Untouched);
    let flow = rig.flow(&tuple(initiator, internet, TCP)).expect("one entry for the whole flow");
    assert_eq!(rig.flow_count(), 1, "{flow:?}");
}

#[test]
fn vnet_takes_the_short_way_beside_flows_through_the_stack() {
    let rig = Rig::new();
    rig.stack_to_pod_a(&Frame::tcp((Rig::PEER, 45_000), A, "S")).keeps("through the stack", &Untouched);
    let direct = Frame::tcp((Rig::PEER, 45_001), A, "S");
    rig.from_wire(&direct).keeps("straight", &ToPod(direct.clone().one_hop_on()));
    let reply = Frame::tcp(A, (Rig::PEER, 45_001), "SA");
    rig.from_pod_a(&reply).keeps("straight back", &ToWire(reply.clone().one_hop_on()));
}
