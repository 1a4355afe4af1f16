//! Ports of the node: who gets which, for how long, and that the host and the pods never share one.

use std::net::Ipv4Addr;

use azure_cni_common::drop_reason::DropReason::{HostPortTaken, NatAddressTaken, NatPortsExhausted};
use bpf_tests::Promise::{Dropped, Passes, ToPod, ToWire, Untouched};
use bpf_tests::{Frame, Rig, Verdict};

/// A packet of a kind, from and to.
type Kind = fn((Ipv4Addr, u16), (Ipv4Addr, u16)) -> Frame;

const INTERNET: (Ipv4Addr, u16) = (Rig::INTERNET, 443);
const ELSEWHERE: (Ipv4Addr, u16) = (Ipv4Addr::new(203, 0, 113, 9), 443);

fn a(port: u16) -> (Ipv4Addr, u16) {
    (Rig::POD_A, port)
}

fn b(port: u16) -> (Ipv4Addr, u16) {
    (Rig::POD_B, port)
}

fn node(port: u16) -> (Ipv4Addr, u16) {
    (Rig::NODE, port)
}

#[test]
fn port_is_kept_if_it_is_in_the_range_and_free() {
    let rig = Rig::new();
    for port in [1024, 20_000, 29_999] {
        for remote in [INTERNET, ELSEWHERE, (INTERNET.0, 80)] {
            let what = format!("{port} to {remote:?}");
            rig.from_pod_a(&Frame::udp(a(port), remote))
                .keeps(&what, &ToWire(Frame::udp(node(port), remote).one_hop_on()));
        }
        let tcp = Frame::tcp(node(port), INTERNET, "S").one_hop_on();
        rig.from_pod_a(&Frame::tcp(a(port), INTERNET, "S")).keeps("another protocol", &ToWire(tcp));
    }
}

#[test]
fn port_outside_of_the_range_is_replaced_by_one_inside() {
    let rig = Rig::new();
    for port in [0, 1, 53, 1023, 30_000, 45_000, 65_535] {
        let outcome = rig.from_pod_a(&Frame::udp(a(port), INTERNET));
        let (address, given) = outcome.frame.source();
        assert_eq!((outcome.verdict, address), (Verdict::ToWire, Rig::NODE));
        assert!((1024..=29_999).contains(&given), "{port} became {given}");
    }
}

#[test]
fn two_pods_with_the_same_port_get_two_and_each_its_own_answers() {
    let rig = Rig::new();
    let kinds: [(&str, Kind, Kind); 3] = [
        ("TCP", |from, to| Frame::tcp(from, to, "S"), |from, to| Frame::tcp(from, to, "SA")),
        ("UDP", Frame::udp, Frame::udp),
        (
            "echo",
            |from, to| Frame::echo_request(from.0, to.0, from.1),
            |from, to| Frame::echo_reply(from.0, to.0, to.1),
        ),
    ];
    for (what, question, reply) in kinds {
        let first = question(node(20_000), INTERNET).one_hop_on();
        rig.from_pod_a(&question(a(20_000), INTERNET)).keeps(what, &ToWire(first));
        let second = rig.from_pod_b(&question(b(20_000), INTERNET)).frame.source();
        assert_ne!(second, node(20_000), "{what}");
        let again = question(second, INTERNET).one_hop_on();
        rig.from_pod_b(&question(b(20_000), INTERNET)).keeps(what, &ToWire(again));

        let to_a = reply(INTERNET, a(20_000)).one_hop_on();
        rig.from_wire(&reply(INTERNET, node(20_000))).keeps(what, &ToPod(to_a));
        let to_b = reply(INTERNET, b(20_000)).one_hop_on();
        rig.from_wire(&reply(INTERNET, second)).keeps(what, &ToPod(to_b));
    }
}

#[test]
fn destination_whose_ports_are_all_held_refuses_and_others_do_not() {
    let rig = Rig::with_nat_ports(20_000, 20_001);
    let mut given: Vec<u16> =
        [5000, 5001].map(|port| rig.from_pod_a(&Frame::udp(a(port), INTERNET)).frame.source().1).into();
    given.sort_unstable();
    assert_eq!(given, [20_000, 20_001]);

    let refused = Dropped(NatPortsExhausted);
    rig.from_pod_a(&Frame::udp(a(5002), INTERNET)).keeps("a third flow", &refused);
    rig.from_pod_b(&Frame::udp(b(20_000), INTERNET)).keeps("another pod's", &refused);
    rig.to_wire(&Frame::udp(a(5003), INTERNET)).keeps("through the stack", &refused);
    assert_eq!(rig.flow_count(), 2, "a refused flow left an entry");

    for (what, packet) in [
        ("another host", Frame::udp(a(5002), ELSEWHERE)),
        ("another port", Frame::udp(a(5002), (INTERNET.0, 80))),
        ("another protocol", Frame::tcp(a(5002), INTERNET, "S")),
        ("a flow that holds one", Frame::udp(a(5000), INTERNET)),
    ] {
        assert_eq!(rig.from_pod_a(&packet).verdict, Verdict::ToWire, "{what}");
    }
}

#[test]
fn port_of_a_flow_that_expired_is_given_to_the_next() {
    let rig = Rig::with_nat_ports(20_000, 20_000);
    let refused = Dropped(NatPortsExhausted);
    let translated = ToWire(Frame::udp(node(20_000), INTERNET).one_hop_on());
    rig.from_pod_a(&Frame::udp(a(5000), INTERNET)).keeps("the holder", &translated);
    rig.from_pod_b(&Frame::udp(b(5000), INTERNET)).keeps("the next, too early", &refused);
    rig.expire_flows();
    rig.from_pod_b(&Frame::udp(b(5000), INTERNET)).keeps("the next", &translated);
    let reply = ToPod(Frame::udp(INTERNET, b(5000)).one_hop_on());
    rig.from_wire(&Frame::udp(INTERNET, node(20_000))).keeps("its reply", &reply);

    rig.from_pod_a(&Frame::udp(a(5000), INTERNET)).keeps("the former holder comes back", &refused);
    rig.from_wire(&Frame::udp(INTERNET, node(20_000))).keeps("the port is not its any more", &reply);
    rig.from_pod_b(&Frame::udp(b(5000), INTERNET)).keeps("and the flow goes on", &translated);
}

#[test]
fn protocol_without_ports_has_one_holder_per_destination() {
    const ESP: u8 = 50;
    let rig = Rig::new();
    let translated = |to| ToWire(Frame::portless(Rig::NODE, to, ESP).one_hop_on());
    let from_b = |to| rig.from_pod_b(&Frame::portless(Rig::POD_B, to, ESP));
    rig.from_pod_a(&Frame::portless(Rig::POD_A, INTERNET.0, ESP)).keeps("the holder", &translated(INTERNET.0));
    from_b(INTERNET.0).keeps("a second pod", &Dropped(NatAddressTaken));
    from_b(ELSEWHERE.0).keeps("to another destination", &translated(ELSEWHERE.0));
    let gre = ToWire(Frame::portless(Rig::NODE, INTERNET.0, 47).one_hop_on());
    rig.from_pod_b(&Frame::portless(Rig::POD_B, INTERNET.0, 47)).keeps("of another protocol", &gre);
    rig.expire_flows();
    from_b(INTERNET.0).keeps("once the holder is silent", &translated(INTERNET.0));
}

#[test]
fn pod_is_not_given_a_port_that_the_host_uses() {
    let rig = Rig::with_nat_ports(20_000, 20_000);
    let kinds: [(&str, Kind); 3] = [
        ("TCP", |from, to| Frame::tcp(from, to, "S")),
        ("UDP", Frame::udp),
        ("echo", |from, to| Frame::echo_request(from.0, to.0, from.1)),
    ];
    for (what, packet) in kinds {
        rig.to_wire(&packet(node(20_000), INTERNET)).keeps(what, &Untouched);
        rig.from_pod_a(&packet(a(20_000), INTERNET)).keeps(what, &Dropped(NatPortsExhausted));
        let elsewhere = packet(node(20_000), ELSEWHERE).one_hop_on();
        rig.from_pod_a(&packet(a(20_000), ELSEWHERE)).keeps(what, &ToWire(elsewhere));
        rig.to_wire(&packet(node(20_000), INTERNET)).keeps(&format!("{what}, the host goes on"), &Untouched);
    }
}

#[test]
fn reply_to_the_host_passes_and_keeps_its_port_reserved() {
    let rig = Rig::with_nat_ports(20_000, 20_000);
    rig.to_wire(&Frame::udp(node(20_000), INTERNET)).keeps("the host's question", &Untouched);
    rig.from_wire(&Frame::udp(INTERNET, node(20_000))).keeps("its reply", &Untouched);
    rig.from_pod_a(&Frame::udp(a(20_000), INTERNET)).keeps("a pod", &Dropped(NatPortsExhausted));
    rig.expire_flows();
    let translated = ToWire(Frame::udp(node(20_000), INTERNET).one_hop_on());
    rig.from_pod_a(&Frame::udp(a(20_000), INTERNET)).keeps("a pod, once the host is silent", &translated);
}

#[test]
fn host_does_not_break_into_the_flow_of_a_pod() {
    let rig = Rig::new();
    let translated = ToWire(Frame::tcp(node(20_000), INTERNET, "S").one_hop_on());
    rig.from_pod_a(&Frame::tcp(a(20_000), INTERNET, "S")).keeps("the pod's", &translated);
    rig.to_wire(&Frame::tcp(node(20_000), INTERNET, "S")).keeps("the host's", &Dropped(HostPortTaken));
    rig.to_wire(&Frame::tcp(node(20_001), INTERNET, "S")).keeps("the host's next port", &Untouched);
    rig.to_wire(&Frame::tcp(node(20_000), ELSEWHERE, "S")).keeps("to another destination", &Untouched);
    let reply = ToPod(Frame::tcp(INTERNET, a(20_000), "SA").one_hop_on());
    rig.from_wire(&Frame::tcp(INTERNET, node(20_000), "SA")).keeps("the pod's reply", &reply);
}

/// IPsec or a tunnel of the host: a pod with a raw socket must not draw its packets to itself.
#[test]
fn protocol_without_ports_that_the_host_speaks_is_not_a_pods_to_take() {
    const ESP: u8 = 50;
    let rig = Rig::new();
    let of_host = Frame::portless(Rig::NODE, INTERNET.0, ESP);
    rig.to_wire(&of_host).keeps("the host's", &Untouched);
    let of_pod = Frame::portless(Rig::POD_A, INTERNET.0, ESP);
    rig.from_pod_a(&of_pod).keeps("the pod's", &Dropped(NatAddressTaken));
    rig.from_wire(&Frame::portless(INTERNET.0, Rig::NODE, ESP)).keeps("the host's reply", &Untouched);
    rig.to_wire(&of_host).keeps("the host's next", &Untouched);
}

#[test]
fn host_port_outside_of_the_range_is_none_of_our_business() {
    let rig = Rig::new();
    for port in [22, 1023, 30_000, 45_000] {
        rig.to_wire(&Frame::udp(node(port), INTERNET)).keeps(&format!("{port}"), &Untouched);
    }
    assert_eq!(rig.translation_count() + rig.flow_count(), 0);
}

#[test]
fn flow_through_the_stack_gets_a_port_by_the_same_rules() {
    let rig = Rig::with_services_unknown();
    rig.from_pod_a(&Frame::udp(a(20_000), INTERNET)).keeps("up the stack", &Untouched);
    let first = Passes(Frame::udp(node(20_000), INTERNET));
    rig.to_wire(&Frame::udp(a(20_000), INTERNET)).keeps("kept", &first);
    rig.from_pod_b(&Frame::udp(b(20_000), INTERNET)).keeps("up the stack", &Untouched);
    let second = rig.to_wire(&Frame::udp(b(20_000), INTERNET)).frame.source();
    assert_ne!(second, node(20_000));
    let reply = Passes(Frame::udp(INTERNET, b(20_000)));
    rig.from_wire(&Frame::udp(INTERNET, second)).keeps("the second's reply", &reply);
}
