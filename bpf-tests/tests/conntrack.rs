//! Which packets belong together, who opened the connection, and for how long it is remembered.

use std::net::Ipv4Addr;
use std::time::Duration;

use azure_cni_common::conntrack::State;
use azure_cni_common::flow::Nat;
use azure_cni_common::lifetime::Timeouts;
use azure_cni_datapath::Constants;
use bpf_tests::Promise::{Passes, ToPod, ToWire, Untouched};
use bpf_tests::{Frame, Rig, Verdict, now_ns, tuple};

const A: (Ipv4Addr, u16) = (Rig::POD_A, 20_000);
const NODE: (Ipv4Addr, u16) = (Rig::NODE, 20_000);
const INTERNET: (Ipv4Addr, u16) = (Rig::INTERNET, 443);
const TCP: u8 = 6;
const UDP: u8 = 17;

#[test]
fn reply_to_inbound_connection_keeps_pod_source() {
    let rig = Rig::new();
    let server = (Rig::POD_A, 80);
    for initiator in [(Rig::INTERNET, 50_000), (Rig::WIRE_SERVER, 50_001), (Rig::PEER, 50_002)] {
        let syn = Frame::tcp(initiator, server, "S");
        rig.from_wire(&syn).keeps("opened from outside", &ToPod(syn.clone().one_hop_on()));
        for flags in ["SA", "A", "FA", "RA"] {
            let reply = Frame::tcp(server, initiator, flags);
            rig.from_pod_a(&reply).keeps(&format!("{flags} to {initiator:?}"), &ToWire(reply.clone().one_hop_on()));
        }
    }
    assert_eq!(rig.translation_count(), 0);
}

#[test]
fn pods_own_connection_to_who_connected_to_it_is_translated() {
    let rig = Rig::new();
    let (server, initiator) = ((Rig::POD_A, 80), (Rig::INTERNET, 50_000));
    let inbound = Frame::tcp(initiator, server, "S");
    rig.from_wire(&inbound).keeps("inbound", &ToPod(inbound.clone().one_hop_on()));
    let own = ToWire(Frame::tcp(NODE, INTERNET, "S").one_hop_on());
    rig.from_pod_a(&Frame::tcp(A, INTERNET, "S")).keeps("its own", &own);

    let reply = Frame::tcp(server, initiator, "SA");
    rig.from_pod_a(&reply).keeps("reply on the inbound one", &ToWire(reply.clone().one_hop_on()));
    let reply = ToPod(Frame::tcp(INTERNET, A, "SA").one_hop_on());
    rig.from_wire(&Frame::tcp(INTERNET, NODE, "SA")).keeps("reply on its own", &reply);
}

#[test]
fn pod_is_asked_by_echo_and_answers_from_its_own_address() {
    let rig = Rig::new();
    let request = Frame::echo_request(Rig::INTERNET, Rig::POD_A, 77);
    rig.from_wire(&request).keeps("request", &ToPod(request.clone().one_hop_on()));
    let reply = Frame::echo_reply(Rig::POD_A, Rig::INTERNET, 77);
    rig.from_pod_a(&reply).keeps("reply", &ToWire(reply.clone().one_hop_on()));
    // The same identifier, the other way round: another flow.
    let own = ToWire(Frame::echo_request(Rig::NODE, Rig::INTERNET, 2077).one_hop_on());
    rig.from_pod_a(&Frame::echo_request(Rig::POD_A, Rig::INTERNET, 2077)).keeps("its own request", &own);
}

/// The connection was opened before the agent came, or its entry is gone: a translated reply would belong to no socket.
#[test]
fn what_can_only_be_an_reply_is_never_translated() {
    let rig = Rig::new();
    let cases = [
        ("SYN-ACK", Frame::tcp(A, INTERNET, "SA")),
        ("reset", Frame::tcp((Rig::POD_A, 20_001), INTERNET, "R")),
        ("reset with ACK", Frame::tcp((Rig::POD_A, 20_002), INTERNET, "RA")),
        ("echo reply", Frame::echo_reply(Rig::POD_A, Rig::INTERNET, 20_003)),
    ];
    for (what, packet) in &cases {
        let promise = if *what == "SYN-ACK" { Untouched } else { ToWire(packet.clone().one_hop_on()) };
        rig.from_pod_a(packet).keeps(what, &promise);
        rig.to_wire(packet).keeps(&format!("{what}, at the wire"), &Untouched);
    }
    assert_eq!(rig.translation_count(), 0);

    let rig = Rig::with_services_unknown();
    for (what, packet) in &cases {
        rig.from_pod_a(packet).keeps(what, &Untouched);
        rig.to_wire(packet).keeps(&format!("{what}, at the wire"), &Untouched);
    }
    assert_eq!(rig.translation_count(), 0);
}

#[test]
fn syn_on_a_closing_flow_starts_afresh() {
    let rig = Rig::new();
    let own = ToWire(Frame::tcp(NODE, INTERNET, "S").one_hop_on());
    // Opened from outside, closed by a reset: a pod's SYN with the same ports is the pod's connection.
    let inbound = Frame::tcp(INTERNET, A, "S");
    rig.from_wire(&inbound).keeps("inbound", &ToPod(inbound.clone().one_hop_on()));
    let reset = Frame::tcp(A, INTERNET, "R");
    rig.from_pod_a(&reset).keeps("refused", &ToWire(reset.clone().one_hop_on()));
    rig.from_pod_a(&Frame::tcp(A, INTERNET, "S")).keeps("the pod's own", &own);
    let flow = rig.flow(&tuple(A, INTERNET, TCP)).unwrap();
    assert_eq!((flow.state, flow.nat), (State(State::SENT), Nat::TRANSLATED));

    // And the other way round.
    let reset = ToPod(Frame::tcp(INTERNET, A, "RA").one_hop_on());
    rig.from_wire(&Frame::tcp(INTERNET, NODE, "RA")).keeps("reset by the other end", &reset);
    rig.from_wire(&inbound).keeps("inbound again", &ToPod(inbound.clone().one_hop_on()));
    let reply = Frame::tcp(A, INTERNET, "SA");
    rig.from_pod_a(&reply).keeps("its reply", &ToWire(reply.clone().one_hop_on()));
}

#[test]
fn restarted_flow_keeps_its_translation_in_both_directions() {
    let rig = Rig::with_nat_ports(20_000, 20_000);
    for round in ["first", "second", "third"] {
        let syn = ToWire(Frame::tcp(NODE, INTERNET, "S").one_hop_on());
        rig.from_pod_a(&Frame::tcp(A, INTERNET, "S")).keeps(round, &syn);
        for flags in ["SA", "FA"] {
            let reply = ToPod(Frame::tcp(INTERNET, A, flags).one_hop_on());
            rig.from_wire(&Frame::tcp(INTERNET, NODE, flags)).keeps(round, &reply);
        }
        let fin = ToWire(Frame::tcp(NODE, INTERNET, "FA").one_hop_on());
        rig.from_pod_a(&Frame::tcp(A, INTERNET, "FA")).keeps(round, &fin);
        assert_eq!(rig.translation_count(), 1);
    }
}

/// The other end of a closing connection cannot take the port away from the flow that says it holds it.
#[test]
fn flow_that_says_it_is_translated_holds_its_port() {
    let rig = Rig::new();
    assert_eq!(rig.from_pod_a(&Frame::tcp(A, INTERNET, "S")).verdict, Verdict::ToWire);
    let close = ToPod(Frame::tcp(INTERNET, A, "RA").one_hop_on());
    rig.from_wire(&Frame::tcp(INTERNET, NODE, "RA")).keeps("reset", &close);
    assert_ne!(rig.from_wire(&Frame::tcp(INTERNET, NODE, "S")).verdict, Verdict::Drop);
    let flow = rig.flow(&tuple(A, INTERNET, TCP)).expect("an entry, whichever side opened it");
    assert_eq!((flow.nat, flow.nat_port.to_host()), (Nat::TRANSLATED, 20_000));
    assert_eq!(rig.translation_count(), 1);
}

#[test]
fn late_reply_and_what_follows_it_reach_both_ends() {
    let rig = Rig::new();
    let question = ToWire(Frame::udp(NODE, INTERNET).one_hop_on());
    rig.from_pod_a(&Frame::udp(A, INTERNET)).keeps("question", &question);
    rig.expire_flows();
    // By which way the flow left is forgotten: the stack is right for both.
    let reply = Passes(Frame::udp(INTERNET, A));
    rig.from_wire(&Frame::udp(INTERNET, NODE)).keeps("late reply", &reply);
    rig.from_pod_a(&Frame::udp(A, INTERNET)).keeps("next question", &Untouched);
    rig.to_wire(&Frame::udp(A, INTERNET)).keeps("at the wire", &Passes(Frame::udp(NODE, INTERNET)));
    rig.from_wire(&Frame::udp(INTERNET, NODE)).keeps("next reply", &reply);
}

#[test]
fn translation_whose_flow_was_lost_heals_from_the_wire() {
    let rig = Rig::new();
    let question = ToWire(Frame::udp(NODE, INTERNET).one_hop_on());
    rig.from_pod_a(&Frame::udp(A, INTERNET)).keeps("question", &question);
    rig.lose_flows();
    // By which way the flow left is unknown: the stack is right for both.
    let for_pod = Frame::udp(INTERNET, A);
    rig.from_wire(&Frame::udp(INTERNET, NODE)).keeps("reply", &Passes(for_pod.clone()));
    let flow = rig.flow(&tuple(A, INTERNET, UDP)).expect("the flow is back");
    assert_eq!((flow.nat, flow.nat_port.to_host()), (Nat::TRANSLATED, 20_000));
    rig.from_pod_a(&Frame::udp(A, INTERNET)).keeps("next question", &Untouched);
    rig.to_wire(&Frame::udp(A, INTERNET)).keeps("at the wire", &Passes(Frame::udp(NODE, INTERNET)));
    rig.from_wire(&Frame::udp(INTERNET, NODE)).keeps("next reply", &Passes(for_pod));
}

#[test]
fn translation_whose_flow_was_lost_heals_from_the_pod() {
    let rig = Rig::new();
    let question = ToWire(Frame::udp(NODE, INTERNET).one_hop_on());
    rig.from_pod_a(&Frame::udp(A, INTERNET)).keeps("question", &question);
    rig.lose_flows();
    rig.from_pod_a(&Frame::udp(A, INTERNET)).keeps("next question, same port", &question);
    let reply = ToPod(Frame::udp(INTERNET, A).one_hop_on());
    rig.from_wire(&Frame::udp(INTERNET, NODE)).keeps("reply", &reply);
}

#[test]
fn silent_flow_is_forgotten_when_its_time_is_over_and_not_before() {
    let timeouts = Timeouts { datagram_one_way_secs: 1, ..Timeouts::DEFAULT };
    let rig = Rig::with(Constants { timeouts, ..Rig::constants() }, 1024);
    let inbound = Frame::udp(INTERNET, A);
    rig.from_wire(&inbound).keeps("inbound", &ToPod(inbound.clone().one_hop_on()));
    let expires_ns = rig.flow(&tuple(A, INTERNET, UDP)).unwrap().expires_ns;

    let reply = Frame::udp(A, INTERNET);
    let before = now_ns();
    let outcome = rig.from_pod_a(&reply);
    if before + 100_000_000 < expires_ns {
        outcome.keeps("within a second", &ToWire(reply.clone().one_hop_on()));
    }
    rig.lose_flows();
    rig.from_wire(&inbound).keeps("inbound", &ToPod(inbound.clone().one_hop_on()));
    std::thread::sleep(Duration::from_millis(1100));
    rig.from_pod_a(&reply).keeps("a second later", &ToWire(Frame::udp(NODE, INTERNET).one_hop_on()));
}

#[test]
fn lifetime_follows_the_connection() {
    let rig = Rig::new();
    let lifetime_secs = || {
        let flow = rig.flow(&tuple(A, INTERNET, TCP)).unwrap();
        // Whole seconds, rounded up: the test has taken some of the last one.
        (flow.expires_ns - now_ns()).div_ceil(1_000_000_000)
    };
    let steps: [(&str, bool, &str, u32); 6] = [
        ("half-open", true, "S", Timeouts::DEFAULT.tcp_half_open_secs),
        ("replied", false, "SA", Timeouts::DEFAULT.tcp_half_open_secs),
        ("established", true, "A", Timeouts::DEFAULT.tcp_established_secs),
        ("half closed", false, "FA", Timeouts::DEFAULT.tcp_half_closed_secs),
        ("closed", true, "FA", Timeouts::DEFAULT.tcp_closed_secs),
        ("opened again", true, "S", Timeouts::DEFAULT.tcp_half_open_secs),
    ];
    for (what, from_pod, flags, secs) in steps {
        let outcome = match from_pod {
            true => rig.from_pod_a(&Frame::tcp(A, INTERNET, flags)),
            false => rig.from_wire(&Frame::tcp(INTERNET, NODE, flags)),
        };
        assert_ne!(outcome.verdict, Verdict::Drop, "{what}");
        let lifetime = lifetime_secs();
        // A renewal by less than a second is not written.
        assert!((u64::from(secs) - 5..=u64::from(secs)).contains(&lifetime), "{what}: {lifetime} s, not {secs} s");
    }
}
