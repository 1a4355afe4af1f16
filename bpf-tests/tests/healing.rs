//! Half of what is known of a translated flow was lost: the other half brings it back, with the same port.

use std::net::Ipv4Addr;

use bpf_tests::Promise::{Passes, ToPod, ToWire, Untouched};
use bpf_tests::{Frame, Rig, tuple};

type End = (Ipv4Addr, u16);

const INTERNET: End = (Rig::INTERNET, 443);
const TCP: u8 = 6;
/// In the NAT range: kept. Outside: replaced by one that is searched.
const PORTS: [u16; 2] = [20_000, 40_000];

/// A translated TCP connection of pod A.
struct Connection<'a> {
    rig: &'a Rig,
    pod: End,
    node: End,
}

impl<'a> Connection<'a> {
    fn establish(rig: &'a Rig, port: u16) -> Self {
        let pod = (Rig::POD_A, port);
        let node = rig.from_pod_a(&Frame::tcp(pod, INTERNET, "S")).frame.source();
        assert_eq!(node.0, Rig::NODE);
        let connection = Self { rig, pod, node };
        connection.gets_reply("handshake", "SA");
        connection.goes_on("handshake", "A");
        assert!(rig.is_established(&tuple(pod, INTERNET, TCP)));
        connection
    }

    fn goes_on(&self, what: &str, flags: &str) {
        let out = ToWire(Frame::tcp(self.node, INTERNET, flags).one_hop_on());
        self.rig.from_pod_a(&Frame::tcp(self.pod, INTERNET, flags)).keeps(what, &out);
    }

    fn gets_reply(&self, what: &str, flags: &str) {
        let back = ToPod(Frame::tcp(INTERNET, self.pod, flags).one_hop_on());
        self.rig.from_wire(&Frame::tcp(INTERNET, self.node, flags)).keeps(what, &back);
    }

    /// The same once the way of the flow is forgotten: the stack is right for every way.
    fn is_answered_through_the_stack(&self, what: &str) {
        let back = Passes(Frame::tcp(INTERNET, self.pod, "A"));
        self.rig.from_wire(&Frame::tcp(INTERNET, self.node, "A")).keeps(what, &back);
    }

    fn goes_on_at_the_wire(&self, what: &str) {
        let out = Passes(Frame::tcp(self.node, INTERNET, "A"));
        self.rig.to_wire(&Frame::tcp(self.pod, INTERNET, "A")).keeps(what, &out);
    }
}

#[test]
fn lost_translation_heals_on_the_pods_next_packet_with_the_same_port() {
    let rig = Rig::new();
    for port in PORTS {
        let connection = Connection::establish(&rig, port);
        rig.lose_translations();
        connection.goes_on("after the loss", "A");
        let [assured, half_open] = rig.translations().map(|translations| translations.keys().count());
        assert_eq!((assured, half_open), (1, 0), "it is where a flood does not reach it");
        connection.gets_reply("after the loss", "A");
    }
}

#[test]
fn lost_translation_of_a_half_open_flow_heals_too() {
    let rig = Rig::new();
    for port in PORTS {
        let pod = (Rig::POD_A, port);
        let question = Frame::udp(pod, INTERNET);
        let node = rig.from_pod_a(&question).frame.source();
        rig.lose_translations();
        rig.from_pod_a(&question).keeps("again", &ToWire(Frame::udp(node, INTERNET).one_hop_on()));
        let back = ToPod(Frame::udp(INTERNET, pod).one_hop_on());
        rig.from_wire(&Frame::udp(INTERNET, node)).keeps("its reply", &back);
    }
}

#[test]
fn lost_translation_whose_port_another_has_meanwhile_becomes_another() {
    let rig = Rig::new();
    let (a, b, node) = ((Rig::POD_A, 20_000), (Rig::POD_B, 20_000), (Rig::NODE, 20_000));
    let translated = ToWire(Frame::udp(node, INTERNET).one_hop_on());
    rig.from_pod_a(&Frame::udp(a, INTERNET)).keeps("the first holder", &translated);
    let back = ToPod(Frame::udp(INTERNET, a).one_hop_on());
    rig.from_wire(&Frame::udp(INTERNET, node)).keeps("its reply", &back);
    rig.lose_translations();
    rig.from_pod_b(&Frame::udp(b, INTERNET)).keeps("the next holder", &translated);

    let given = rig.from_pod_a(&Frame::udp(a, INTERNET)).frame.source();
    assert!(given.0 == Rig::NODE && given != node, "{given:?}");
    rig.from_wire(&Frame::udp(INTERNET, given)).keeps("reply to the new port", &back);
    let back = ToPod(Frame::udp(INTERNET, b).one_hop_on());
    rig.from_wire(&Frame::udp(INTERNET, node)).keeps("reply to the old one", &back);
}

#[test]
fn lost_flow_heals_from_the_wire() {
    let rig = Rig::new();
    for port in PORTS {
        let connection = Connection::establish(&rig, port);
        rig.lose_flows();
        connection.is_answered_through_the_stack("after the loss");
        assert!(!rig.is_established(&tuple(connection.pod, INTERNET, TCP)), "it may be forged");
        let on = Frame::tcp(connection.pod, INTERNET, "A");
        rig.from_pod_a(&on).keeps("the pod goes on", &Untouched);
        connection.goes_on_at_the_wire("the pod goes on");
        connection.is_answered_through_the_stack("and again");
        assert!(rig.is_established(&tuple(connection.pod, INTERNET, TCP)));
    }
}

#[test]
fn lost_flow_heals_from_the_pod_in_mid_stream() {
    let rig = Rig::new();
    for port in PORTS {
        let connection = Connection::establish(&rig, port);
        rig.lose_flows();
        connection.goes_on("after the loss", "A");
        connection.gets_reply("after the loss", "A");
        assert!(rig.is_established(&tuple(connection.pod, INTERNET, TCP)));
        connection.goes_on("and again", "A");
    }
}

#[test]
fn mid_stream_of_an_unknown_flow_is_not_translated_and_leaves_nothing_behind() {
    let rig = Rig::new();
    for port in PORTS {
        for flags in ["A", "FA", "R", "RA", "SA"] {
            let packet = Frame::tcp((Rig::POD_A, port), INTERNET, flags);
            // The stack may know whom a SYN-ACK answers, and by which way.
            let promise = if flags == "SA" { Untouched } else { ToWire(packet.clone().one_hop_on()) };
            rig.from_pod_a(&packet).keeps(flags, &promise);
            rig.to_wire(&packet).keeps(flags, &Untouched);
        }
    }
    assert_eq!((rig.flow_count(), rig.translation_count()), (0, 0));
}

#[test]
fn lost_flow_through_the_stack_heals_from_the_pod_in_mid_stream() {
    let rig = Rig::with_services_unknown();
    for port in PORTS {
        let pod = (Rig::POD_A, port);
        let up = |flags| rig.from_pod_a(&Frame::tcp(pod, INTERNET, flags)).keeps("up the stack", &Untouched);
        up("S");
        let node = rig.to_wire(&Frame::tcp(pod, INTERNET, "S")).frame.source();
        let connection = Connection { rig: &rig, pod, node };
        let back = Passes(Frame::tcp(INTERNET, pod, "SA"));
        rig.from_wire(&Frame::tcp(INTERNET, node, "SA")).keeps("handshake", &back);
        up("A");
        connection.goes_on_at_the_wire("handshake");
        rig.lose_flows();
        up("A");
        connection.goes_on_at_the_wire("after the loss");
        connection.is_answered_through_the_stack("after the loss");
    }
}

#[test]
fn mid_stream_of_an_unknown_flow_through_the_stack_leaves_nothing_behind() {
    let rig = Rig::with_services_unknown();
    for flags in ["A", "FA", "R", "RA", "SA"] {
        let packet = Frame::tcp((Rig::POD_A, 20_000), INTERNET, flags);
        rig.from_pod_a(&packet).keeps(flags, &Untouched);
        rig.to_wire(&packet).keeps(flags, &Untouched);
    }
    assert_eq!((rig.flow_count(), rig.translation_count()), (0, 0));
}
