//! A sender who forged its address and does not see the replies: it promotes, ends and shortens no flow, and opens none that
//! grants something. In both families, from the wire and through the host's stack.

use std::net::{IpAddr, Ipv4Addr};

use azure_cni_common::flow::{Flow, FlowKey, Nat};
use azure_cni_common::lifetime::Timeouts;
use bpf_tests::Promise::{ToPod, ToWire, Untouched};
use bpf_tests::{Frame, Outcome, Rig, Verdict, now_ns, tuple};

type End = (IpAddr, u16);

const TCP: u8 = 6;
const UDP: u8 = 17;

/// The addresses of a family.
#[derive(Clone, Copy)]
struct Net {
    pod: IpAddr,
    node: IpAddr,
    internet: IpAddr,
    peer: IpAddr,
}

const NETS: [Net; 2] = [
    Net {
        pod: IpAddr::V4(Rig::POD_A),
        node: IpAddr::V4(Rig::NODE),
        internet: IpAddr::V4(Rig::INTERNET),
        peer: IpAddr::V4(Rig::PEER),
    },
    Net {
        pod: IpAddr::V6(Rig::POD_A6),
        node: IpAddr::V6(Rig::NODE6),
        internet: IpAddr::V6(Rig::INTERNET6),
        peer: IpAddr::V6(Rig::PEER6),
    },
];

/// How a packet from outside comes to the pod.
type Way = (&'static str, fn(&Rig, &Frame) -> Outcome);
const WAYS: [Way; 2] = [("from the wire", Rig::from_wire), ("through the stack", Rig::stack_to_pod_a)];

fn cases() -> impl Iterator<Item = (Net, Way)> {
    NETS.into_iter().flat_map(|net| WAYS.map(move |way| (net, way)))
}

/// The flow between two ends, and whether it is in the connection table.
fn flow(rig: &Rig, one: End, other: End, protocol: u8) -> Option<(Flow, bool)> {
    match (one.0, other.0) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            let key = FlowKey::of(&tuple((a, one.1), (b, other.1), protocol)).0;
            let found = rig.flows().map(|flows| flows.get(&key, 0).ok());
            found.iter().flatten().next().map(|flow| (*flow, found[0].is_some()))
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            let key = FlowKey::of(&tuple((a, one.1), (b, other.1), protocol)).0;
            let found = rig.flows6().map(|flows| flows.get(&key, 0).ok());
            found.iter().flatten().next().map(|flow| (*flow, found[0].is_some()))
        }
        _ => panic!("two families"),
    }
}

fn is_assured(rig: &Rig, one: End, other: End, protocol: u8) -> bool {
    flow(rig, one, other, protocol).is_some_and(|(_, is_assured)| is_assured)
}

fn arrives(what: &str, outcome: &Outcome) {
    assert!(matches!(outcome.verdict, Verdict::ToPod | Verdict::Pass), "{what}: {:?}", outcome.drops);
}

/// Numbers that are near none of the flow's.
const WRONG: [(u32, u32); 3] = [(0x4000_0000, 0x9000_0000), (1000, 0x9000_0000), (0x4000_0000, 1 << 20)];

#[test]
fn forged_handshake_is_not_assured_and_an_honest_one_is() {
    for (net, (way, arrive)) in cases() {
        let rig = Rig::new();
        let (client, server) = ((net.peer, 45_000), (net.pod, 80));
        arrives(way, &arrive(&rig, &Frame::tcp(client, server, "S")));
        for (sequence, acknowledgement) in WRONG {
            for flags in ["A", "SA", "FA", "RA"] {
                let forged = Frame::tcp_with_numbers(client, server, flags, sequence, acknowledgement);
                arrives(way, &arrive(&rig, &forged));
            }
        }
        let _ = rig.from_pod_a(&Frame::tcp(server, client, "SA"));
        let (before, _) = flow(&rig, client, server, TCP).unwrap();
        for (sequence, acknowledgement) in WRONG {
            for flags in ["A", "SA", "FA", "RA", "R"] {
                if flags == "R" && sequence == 1000 {
                    continue;
                }
                let forged = Frame::tcp_with_numbers(client, server, flags, sequence, acknowledgement);
                arrives(way, &arrive(&rig, &forged));
                assert_eq!(flow(&rig, client, server, TCP), Some((before, false)), "{way}: {flags}");
            }
        }
        arrives(way, &arrive(&rig, &Frame::tcp(client, server, "A")));
        assert!(is_assured(&rig, client, server, TCP), "{way}: an honest one");
        rig.lose_flows_if_any();
    }
}

#[test]
fn datagrams_from_outside_are_never_assured() {
    let rig = Rig::new();
    for (net, (way, arrive)) in cases() {
        let (client, server) = ((net.peer, 45_000), (net.pod, 53));
        for _ in 0..2 {
            arrives(way, &arrive(&rig, &Frame::udp(client, server)));
            let _ = rig.from_pod_a(&Frame::udp(server, client));
            rig.age_datagrams();
            arrives(way, &arrive(&rig, &Frame::udp(client, server)));
        }
        assert_eq!(flow(&rig, client, server, UDP).map(|(_, is_assured)| is_assured), Some(false), "{way}");
    }
}

#[test]
fn datagrams_of_a_pod_are_assured_once_they_go_on_after_two_seconds() {
    let rig = Rig::new();
    for net in NETS {
        let (pod, node, internet) = ((net.pod, 20_000), (net.node, 20_000), (net.internet, 443));
        let ask = || {
            rig.from_pod_a(&Frame::udp(pod, internet)).keeps("asks", &ToWire(Frame::udp(node, internet).one_hop_on()))
        };
        let reply = || {
            rig.from_wire(&Frame::udp(internet, node)).keeps("reply", &ToPod(Frame::udp(internet, pod).one_hop_on()))
        };
        ask();
        reply();
        ask();
        assert!(!is_assured(&rig, pod, internet, UDP), "an exchange");
        rig.age_datagrams();
        reply();
        assert!(!is_assured(&rig, pod, internet, UDP), "a reply shows nothing");
        let held = |rig: &Rig| {
            if net.pod.is_ipv4() {
                rig.translations().map(|table| table.keys().count())
            } else {
                rig.translations6().map(|table| table.keys().count())
            }
        };
        assert_eq!(held(&rig), [0, 1]);
        ask();
        assert!(is_assured(&rig, pod, internet, UDP), "a stream");
        assert_eq!(held(&rig), [1, 0], "its translation with it");
        reply();
        ask();
    }
}

#[test]
fn blind_reset_or_fin_shortens_nothing_and_a_fitting_one_does() {
    for fitting in ["FA", "RA", "R"] {
        let rig = Rig::new();
        for net in NETS {
            let (pod, node, internet) = ((net.pod, 20_000), (net.node, 20_000), (net.internet, 443));
            let _ = rig.from_pod_a(&Frame::tcp(pod, internet, "S"));
            let _ = rig.from_wire(&Frame::tcp(internet, node, "SA"));
            let _ = rig.from_pod_a(&Frame::tcp(pod, internet, "A"));
            let before = flow(&rig, pod, internet, TCP);
            assert!(before.is_some_and(|(_, is_assured)| is_assured));
            for (sequence, acknowledgement) in [(0x4000_0000, 0x9000_0000), (0x4000_0000, 77)] {
                for flags in ["F", "FA", "R", "RA", "S", "SA"] {
                    let forged = Frame::tcp_with_numbers(internet, node, flags, sequence, acknowledgement);
                    let out = Frame::tcp_with_numbers(internet, pod, flags, sequence, acknowledgement).one_hop_on();
                    rig.from_wire(&forged).keeps("forwarded all the same", &ToPod(out));
                    assert_eq!(flow(&rig, pod, internet, TCP), before, "{flags}");
                }
            }
            let _ = rig.from_wire(&Frame::tcp(internet, node, fitting));
            let (after, _) = flow(&rig, pod, internet, TCP).unwrap();
            let secs = (after.expires_ns - now_ns()).div_ceil(1_000_000_000);
            assert!(secs <= u64::from(Timeouts::DEFAULT.tcp_half_closed_secs), "{fitting}: {secs} s");
        }
    }
}

#[test]
fn stray_segment_from_outside_opens_nothing_and_the_pods_syn_is_its_own() {
    let rig = Rig::new();
    for (net, (way, arrive)) in cases() {
        let (pod, node, remote) = ((net.pod, 20_000), (net.node, 20_000), (net.internet, 443));
        let strays = ["A", "SA", "FA", "R", "RA"].map(|flags| Frame::tcp(remote, pod, flags));
        for stray in strays.iter().chain([&Frame::echo_reply(net.internet, net.pod, 7)]) {
            arrives(way, &arrive(&rig, stray));
        }
        assert_eq!(rig.flow_count(), 0, "{way}");
        rig.from_pod_a(&Frame::tcp(pod, remote, "S")).keeps(way, &ToWire(Frame::tcp(node, remote, "S").one_hop_on()));
        let (flow, _) = flow(&rig, pod, remote, TCP).unwrap();
        assert_eq!(flow.nat, Nat::TRANSLATED);
        let _ = rig.from_pod_a(&Frame::tcp(pod, remote, "RA"));
        rig.lose_flows_if_any();
        rig.lose_flows6_if_any();
    }
}

/// A connection that is older than the agent goes on both ways.
#[test]
fn connection_from_before_the_agent_goes_on() {
    let rig = Rig::new();
    for net in NETS {
        let (pod, remote) = ((net.pod, 80), (net.internet, 50_000));
        let in_mid_stream = Frame::tcp(remote, pod, "A");
        rig.from_wire(&in_mid_stream).keeps("in", &ToPod(in_mid_stream.clone().one_hop_on()));
        let out = Frame::tcp(pod, remote, "A");
        rig.from_pod_a(&out).keeps("out", &ToWire(out.clone().one_hop_on()));
        rig.stack_to_pod_a(&in_mid_stream).keeps("in through the stack", &Untouched);
    }
}

/// Three frames each: SYN, the pod's SYN-ACK, an ACK with any number. Then pods open connections as ever.
#[test]
fn flood_of_forged_handshakes_fills_no_table_that_refuses() {
    const MAX_FLOWS: u16 = 64;
    let rig = Rig::with_tables(Rig::constants(), MAX_FLOWS.into(), 64);
    for index in 0..10 * MAX_FLOWS {
        let forged = (Ipv4Addr::from(0xc633_6400 + u32::from(index)), 1024 + index);
        let server = (Rig::POD_A, 80);
        assert_eq!(rig.from_wire(&Frame::tcp(forged, server, "S")).verdict, Verdict::ToPod);
        let _ = rig.from_pod_a(&Frame::tcp(server, forged, "SA"));
        let guess = Frame::tcp_with_numbers(forged, server, "A", 1022, 0x4000_0000 + u32::from(index));
        assert_eq!(rig.from_wire(&guess).verdict, Verdict::ToPod);
        for datagram in [Frame::udp(forged, (Rig::POD_A, 53)), Frame::udp(forged, (Rig::POD_A, 53))] {
            assert_eq!(rig.from_wire(&datagram).verdict, Verdict::ToPod);
            let _ = rig.from_pod_a(&Frame::udp((Rig::POD_A, 53), forged));
        }
    }
    assert_eq!(rig.flows()[0].keys().count(), 0, "assured");
    let internet = (Rig::INTERNET, 443);
    for port in 20_000..20_000 + MAX_FLOWS {
        let (pod, node) = ((Rig::POD_B, port), (Rig::NODE, port));
        let out = |flags| ToWire(Frame::tcp(node, internet, flags).one_hop_on());
        rig.from_pod_b(&Frame::tcp(pod, internet, "S")).keeps("a pod's own", &out("S"));
        let back = ToPod(Frame::tcp(internet, pod, "SA").one_hop_on());
        rig.from_wire(&Frame::tcp(internet, node, "SA")).keeps("its reply", &back);
        rig.from_pod_b(&Frame::tcp(pod, internet, "A")).keeps("and on", &out("A"));
    }
}
