//! What a pod's limits count: each packet once for each limited pod that it leaves or reaches, by whatever way.
//!
//! A bucket that is in debt until some time in the future, under a limit that forgives any debt, shows by how much it grew what a
//! packet was counted as, to the byte.

use std::net::IpAddr;

use azure_cni_common::bandwidth::{BURST_MAX, BURST_MIN, Limit, Limits, RATE_MIN};
use azure_cni_common::drop_reason::DropReason::{BandwidthLimit, MartianSource, PlatformBlocked, SourceNotOwned};
use azure_cni_common::endpoint::EndpointFlags;
use azure_cni_datapath::Hook;
use bpf_tests::Promise::{Dropped, ToPod, ToWire, Untouched};
use bpf_tests::{Frame, IcmpError, Offload, Rig, Verdict, ifindex, now_ns};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

type End = (IpAddr, u16);

/// At this rate.
const NS_PER_BYTE: u64 = 8_000_000_000 / RATE_MIN;

struct Ends {
    a: End,
    b: End,
    peer: End,
    internet: End,
    node: End,
}

const V4: Ends = Ends {
    a: (IpAddr::V4(Rig::POD_A), 20_000),
    b: (IpAddr::V4(Rig::POD_B), 8080),
    peer: (IpAddr::V4(Rig::PEER), 443),
    internet: (IpAddr::V4(Rig::INTERNET), 443),
    node: (IpAddr::V4(Rig::NODE), 53),
};

const V6: Ends = Ends {
    a: (IpAddr::V6(Rig::POD_A6), 20_000),
    b: (IpAddr::V6(Rig::POD_B6), 8080),
    peer: (IpAddr::V6(Rig::PEER6), 443),
    internet: (IpAddr::V6(Rig::INTERNET6), 443),
    node: (IpAddr::V6(Rig::NODE6), 53),
};

/// Gives the pod behind a host veth these limits, and its endpoints the flag.
fn limit(rig: &Rig, interface: &str, limits: Limits) {
    let index = ifindex(interface);
    rig.tables().set_limits(index, Limits::NONE).unwrap();
    rig.tables().set_limits(index, limits).unwrap();
    for (address, entry) in rig.tables().endpoints().unwrap() {
        if entry.ifindex == index {
            let entry = entry.with_flags(EndpointFlags::LIMITED);
            rig.tables().set_endpoint(address, entry).unwrap();
        }
    }
}

/// Forgives any debt.
fn generous(now_ns: u64) -> Limit {
    Limit { paid_until_ns: now_ns + 60_000_000_000, ..Limit::new(RATE_MIN, Some(BURST_MAX)) }
}

/// Passes nothing for minutes.
fn empty(now_ns: u64) -> Limit {
    Limit { paid_until_ns: now_ns + 600_000_000_000, ..Limit::new(RATE_MIN, Some(BURST_MIN)) }
}

/// What work was counted as at a host veth: bytes that reached the pod, and that left it.
fn counted(rig: &Rig, interface: &str, work: impl FnOnce()) -> (u64, u64) {
    let limits = || rig.tables().limits(ifindex(interface)).unwrap().unwrap();
    let before = limits();
    work();
    let after = limits();
    let bytes = |before: Limit, after: Limit| (after.paid_until_ns - before.paid_until_ns) / NS_PER_BYTE;
    (bytes(before.ingress, after.ingress), bytes(before.egress, after.egress))
}

fn both_generous(rig: &Rig) {
    for interface in ["azva", "azvb"] {
        limit(rig, interface, Limits { ingress: generous(now_ns()), egress: generous(now_ns()) });
    }
}

fn length(frame: &Frame) -> u64 {
    frame.packet().len() as u64
}

#[test]
fn packet_counts_once_for_the_pod_that_it_leaves_and_the_pod_that_it_reaches() {
    let rig = Rig::new();
    both_generous(&rig);
    for Ends { a, b, peer, internet, node } in [V4, V6] {
        let payload = [7; 1000];
        let udp = |from, to| Frame::udp_with_payload(from, to, &payload);
        let full = length(&udp(a, b));
        let mark = |work: &dyn Fn()| {
            let mut of_b = (0, 0);
            let of_a = counted(&rig, "azva", || of_b = counted(&rig, "azvb", work));
            (of_a, of_b)
        };
        let out = |frame: Frame| rig.from_pod_a(&frame);
        let translated = udp((node.0, a.1), internet).one_hop_on();
        for (what, work, expected) in [
            (
                "between pods",
                &(|| out(udp(a, b)).keeps("", &ToPod(udp(a, b).one_hop_on()))) as &dyn Fn(),
                ((0, full), (full, 0)),
            ),
            ("to the wire", &|| out(udp(a, peer)).keeps("", &ToWire(udp(a, peer).one_hop_on())), ((0, full), (0, 0))),
            ("to the Internet", &|| out(udp(a, internet)).keeps("", &ToWire(translated.clone())), ((0, full), (0, 0))),
            ("to the host", &|| out(udp(a, node)).keeps("", &Untouched), ((0, full), (0, 0))),
            (
                "from the wire",
                &|| rig.from_wire(&udp(peer, a)).keeps("", &ToPod(udp(peer, a).one_hop_on())),
                ((full, 0), (0, 0)),
            ),
            (
                "reply to a translated flow",
                &|| {
                    let reply = udp(internet, (node.0, a.1));
                    rig.from_wire(&reply).keeps("", &ToPod(udp(internet, a).one_hop_on()));
                },
                ((full, 0), (0, 0)),
            ),
            ("from the host", &|| rig.stack_to_pod_a(&udp(node, a)).keeps("", &Untouched), ((full, 0), (0, 0))),
            (
                "forged, from the wire",
                &|| rig.from_wire(&udp(node, b)).keeps("", &Dropped(MartianSource)),
                ((0, 0), (0, 0)),
            ),
            ("at the wire behind the stack", &|| drop(rig.to_wire(&udp(a, peer))), ((0, 0), (0, 0))),
            // The other hook counts it.
            (
                "last hop from the wire",
                &|| rig.from_wire(&udp(peer, b).with_hop_limit(1)).keeps("", &Untouched),
                ((0, 0), (0, 0)),
            ),
            ("of the node's own", &|| drop(rig.from_wire(&udp(peer, node))), ((0, 0), (0, 0))),
            (
                "error about a packet of the pod",
                &|| {
                    let quoted = udp(a, peer);
                    let message = Frame::icmp_error(peer.0, a.0, IcmpError::PortUnreachable, quoted.packet());
                    assert_eq!(rig.from_wire(&message).verdict, Verdict::ToPod);
                },
                (
                    (length(&Frame::icmp_error(peer.0, a.0, IcmpError::PortUnreachable, udp(a, peer).packet())), 0),
                    (0, 0),
                ),
            ),
        ] {
            assert_eq!(mark(work), expected, "{what}, {}", a.0);
        }
    }
}

#[test]
fn what_is_over_the_limit_is_dropped_on_every_way_and_counted() {
    let rig = Rig::new();
    for Ends { a, b, peer, internet, node } in [V4, V6] {
        // The flows are known, so that nothing but the limit stands in the way.
        rig.from_pod_a(&Frame::udp(a, internet))
            .keeps("opens", &ToWire(Frame::udp((node.0, a.1), internet).one_hop_on()));
        let now = now_ns();
        limit(&rig, "azva", Limits { ingress: Limit::NONE, egress: empty(now) });
        for (what, frame) in [
            ("to a pod", Frame::udp(a, b)),
            ("to the wire", Frame::tcp(a, peer, "S")),
            ("to the Internet", Frame::udp(a, internet)),
            ("to the host", Frame::udp(a, node)),
            ("an error", Frame::icmp_error(a.0, b.0, IcmpError::PortUnreachable, Frame::udp(b, a).packet())),
            ("a later fragment", Frame::udp(a, peer).in_two(16, 7)[1].clone()),
        ] {
            rig.from_pod_a(&frame).keeps(what, &Dropped(BandwidthLimit));
        }
        rig.from_wire(&Frame::udp(peer, a)).keeps("ingress has none", &ToPod(Frame::udp(peer, a).one_hop_on()));
        rig.from_pod_b(&Frame::udp(b, a)).keeps("nor has b", &ToPod(Frame::udp(b, a).one_hop_on()));

        limit(&rig, "azva", Limits { ingress: empty(now), egress: Limit::NONE });
        rig.from_pod_b(&Frame::udp(b, a)).keeps("from a pod", &Dropped(BandwidthLimit));
        rig.from_wire(&Frame::udp(peer, a)).keeps("from the wire", &Dropped(BandwidthLimit));
        rig.from_wire(&Frame::udp(internet, (node.0, a.1))).keeps("a reply", &Dropped(BandwidthLimit));
        rig.stack_to_pod_a(&Frame::udp(node, a)).keeps("from the host", &Dropped(BandwidthLimit));
        rig.from_pod_a(&Frame::udp(a, peer)).keeps("egress has none", &ToWire(Frame::udp(a, peer).one_hop_on()));
        limit(&rig, "azva", Limits::NONE);
    }
}

#[test]
fn what_a_pod_may_not_send_costs_it_nothing() {
    let rig = Rig::new();
    both_generous(&rig);
    for Ends { a, b, peer, .. } in [V4, V6] {
        let forged = || rig.from_pod_a(&Frame::udp(peer, b)).keeps("forged", &Dropped(SourceNotOwned));
        assert_eq!(counted(&rig, "azva", forged), (0, 0));
        assert_eq!(counted(&rig, "azvb", || drop(rig.from_pod_a(&Frame::udp(b, a)))), (0, 0), "another's name");
    }
    // What it sends in its own name is its own.
    let blocked = Frame::tcp((Rig::POD_A, 20_000), (Rig::WIRE_SERVER, 80), "S");
    let sends = || rig.from_pod_a(&blocked).keeps("the platform", &Dropped(PlatformBlocked));
    assert_eq!(counted(&rig, "azva", sends), (0, length(&blocked)));
}

#[test]
fn pod_without_the_flag_is_not_looked_up() {
    let rig = Rig::new();
    let none = Limits { ingress: empty(now_ns()), egress: empty(now_ns()) };
    rig.tables().set_limits(ifindex("azva"), none).unwrap();
    for Ends { a, b, .. } in [V4, V6] {
        rig.from_pod_a(&Frame::udp(a, b)).keeps("out", &ToPod(Frame::udp(a, b).one_hop_on()));
        rig.from_pod_b(&Frame::udp(b, a)).keeps("in", &ToPod(Frame::udp(b, a).one_hop_on()));
        rig.stack_to_pod_a(&Frame::udp(b, a)).keeps("through the stack", &Untouched);
    }
}

#[test]
fn offloaded_packet_counts_as_its_segments_with_their_headers() {
    let rig = Rig::new();
    both_generous(&rig);
    for Ends { a, peer, .. } in [V4, V6] {
        let header = if a.0.is_ipv4() { 20 } else { 40 };
        let bytes =
            |transport: u64, payload: u64, segment: u64| payload + payload.div_ceil(segment) * (header + transport);
        for payload in [1000, 1001, 3000] {
            let offload = Offload { segment: 1000, ..Offload::default() };
            let tcp = Frame::tcp_with_payload(a, peer, &vec![1; payload]);
            let udp = Frame::udp_with_payload(a, peer, &vec![1; payload]);
            for (what, frame, transport) in [("TCP", tcp, 20), ("UDP", udp, 8)] {
                let run = || drop(rig.run(Hook::FromEndpoint, "azva", &frame, offload));
                let expected = bytes(transport, payload as u64, 1000);
                assert_eq!(counted(&rig, "azva", run), (0, expected), "{what}, {payload} bytes from {}", a.0);
            }
        }
    }
}

#[test]
fn padding_behind_the_packet_counts_too() {
    let rig = Rig::new();
    both_generous(&rig);
    for Ends { a, b, .. } in [V4, V6] {
        let frame = Frame::udp(a, b).padded(900);
        assert_eq!(counted(&rig, "azva", || drop(rig.from_pod_a(&frame))), (0, length(&frame)));
        assert_eq!(length(&frame), length(&Frame::udp(a, b)) + 900);
    }
}

#[test]
fn fragment_that_is_put_back_counts_once() {
    let rig = Rig::new();
    both_generous(&rig);
    for Ends { a, internet, .. } in [V4, V6] {
        let [_, later] = Frame::udp_with_payload(a, internet, &[1; 64]).in_two(32, 9);
        let comes = || {
            let mut mark = 0;
            for _ in 0..4 {
                let outcome = rig.run(Hook::FromEndpoint, "azva", &later, Offload { mark, ..Offload::default() });
                assert_eq!(outcome.verdict, Verdict::Wait);
                mark = outcome.mark;
            }
        };
        assert_eq!(counted(&rig, "azva", comes), (0, length(&later)));
    }
}

#[test]
fn two_cpus_lose_no_byte_of_each_other() {
    const PACKETS: u32 = 1_000_000;
    let rig = Rig::new();
    limit(&rig, "azva", Limits { ingress: generous(now_ns()), egress: Limit::NONE });
    let frame = Frame::udp(V4.node, V4.a);
    let together = std::sync::Barrier::new(2);
    let both = || {
        std::thread::scope(|scope| {
            for cpu in 0..2 {
                let (rig, frame, together) = (&rig, &frame, &together);
                scope.spawn(move || {
                    // Where another program keeps one of them busy, they would take turns.
                    let mut only = CpuSet::new();
                    only.set(cpu).unwrap();
                    sched_setaffinity(Pid::from_raw(0), &only).expect("a machine with two CPUs");
                    together.wait();
                    rig.cost(Hook::ToEndpoint, "azva", frame, PACKETS)
                });
            }
        });
    };
    let (bytes, _) = counted(&rig, "azva", both);
    assert_eq!(bytes, 2 * u64::from(PACKETS) * length(&frame));
}

#[test]
fn limits_that_are_set_again_keep_their_buckets_and_go_with_the_last_address() {
    let mut rig = Rig::new();
    let index = ifindex("azva");
    let used = Limits { ingress: generous(now_ns()), egress: Limit::NONE };
    limit(&rig, "azva", used);
    let fresh = Limits { ingress: Limit { paid_until_ns: 0, ..used.ingress }, egress: Limit::NONE };
    rig.tables().set_limits(index, fresh).unwrap();
    assert_eq!(rig.tables().limits(index).unwrap(), Some(used));
    rig.restart_agent();
    assert_eq!(rig.tables().limits(index).unwrap(), Some(used));
    let other = Limits { egress: Limit::new(RATE_MIN, None), ..fresh };
    rig.tables().set_limits(index, other).unwrap();
    assert_eq!(rig.tables().limits(index).unwrap(), Some(other));

    rig.tables().remove_endpoint(V4.a.0).unwrap();
    assert_eq!(rig.tables().limits(index).unwrap(), Some(other), "it has an address left");
    // As when its veth pair is made again.
    rig.add_pod(V6.a.0, "azvb");
    assert_eq!(rig.tables().all_limits().unwrap().len(), 0);
    // Left by an agent that was killed before it set an endpoint.
    rig.tables().set_limits(index, other).unwrap();
    rig.restart_agent();
    assert_eq!(rig.tables().all_limits().unwrap().len(), 0);
}

#[test]
fn neighbour_discovery_from_the_pods_own_address_is_not_limited() {
    let rig = Rig::new();
    let index = ifindex("azva");
    let empty = Limit { paid_until_ns: now_ns() + 600_000_000_000, ..Limit::new(RATE_MIN, Some(BURST_MIN)) };
    rig.tables().set_limits(index, Limits { ingress: Limit::NONE, egress: empty }).unwrap();
    for (address, entry) in rig.tables().endpoints().unwrap() {
        if entry.ifindex == index {
            rig.tables().set_endpoint(address, entry.with_flags(EndpointFlags::LIMITED)).unwrap();
        }
    }
    let [router, group] = ["fe80::1", "ff02::1:ff00:1"].map(|address| IpAddr::V6(address.parse().unwrap()));
    for (what, kind, to) in
        [("solicitation", 135, router), ("to the group", 135, group), ("advertisement", 136, router)]
    {
        let message = Frame::icmp_other(IpAddr::V6(Rig::POD_A6), to, kind).with_hop_limit(255);
        rig.from_pod_a(&message).keeps(what, &Untouched);
    }
    rig.from_pod_a(&Frame::udp((Rig::POD_A6, 1), (Rig::PEER6, 2))).keeps("all else", &Dropped(BandwidthLimit));
}
