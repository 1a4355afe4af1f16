//! One pod must not take what all share: it has a share of the ports towards a destination and of the connection table, and what
//! is refused costs little.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use azure_cni_common::drop_reason::DropReason::{NatPortsExhausted, PodFlowShare};
use azure_cni_common::flow::FlowKey;
use azure_cni_common::lifetime::NS_PER_SEC;
use azure_cni_common::nat::PortRange;
use azure_cni_common::nat::share::blocks_of;
use azure_cni_datapath::{Constants, Sweeper};
use bpf_tests::Promise::{Dropped, ToPod, ToWire};
use bpf_tests::{Frame, Rig, Verdict, now_ns, tuple};

/// Eight ports a block.
const PORTS: PortRange = PortRange { first: 2000, last: 2000 + 8 * 256 - 1 };
/// A quarter of the blocks.
const SHARE: usize = 8 * 64;

fn with_ports() -> Rig {
    let constants = Constants { nat_ports: PORTS, nat_pod_blocks: blocks_of(25), ..Rig::patient_constants() };
    Rig::with_tables(constants, 1024, 8192)
}

/// What a pod gets that asks from many ports, once each.
fn ports_given(rig: &Rig, of_a: bool, pod: IpAddr, to: (IpAddr, u16), questions: u16) -> (BTreeSet<u16>, usize) {
    let (mut given, mut refused) = (BTreeSet::new(), 0);
    for port in 0..questions {
        let question = Frame::udp((pod, 32_768 + port), to);
        let outcome = if of_a { rig.from_pod_a(&question) } else { rig.from_pod_b(&question) };
        match outcome.verdict {
            Verdict::ToWire => assert!(given.insert(outcome.frame.source().1), "a port was given twice"),
            _ => {
                assert_eq!(outcome.drops, [NatPortsExhausted]);
                refused += 1;
            }
        }
    }
    (given, refused)
}

#[test]
fn pod_that_takes_every_port_it_can_leaves_most_of_another_pods() {
    let rig = with_ports();
    let families: [[IpAddr; 3]; 2] = [
        [Rig::POD_A.into(), Rig::POD_B.into(), Rig::WIRE_SERVER.into()],
        [Rig::POD_A6.into(), Rig::POD_B6.into(), Rig::INTERNET6.into()],
    ];
    for [a, b, to] in families {
        let (taken, refused) = ports_given(&rig, true, a, (to, 53), 3000);
        assert!(taken.len() <= SHARE, "{} ports", taken.len());
        assert!(taken.len() > SHARE * 9 / 10, "{} ports", taken.len());
        assert_eq!(refused, 3000 - taken.len());
        let (given, refused) = ports_given(&rig, false, b, (to, 53), 200);
        assert_eq!((given.len(), refused), (200, 0), "the other pod's");
        assert!(given.is_disjoint(&taken));
        let (elsewhere, _) = ports_given(&rig, true, a, (to, 54), 200);
        assert_eq!(elsewhere.len(), 200, "another destination's ports are others");
    }
}

#[test]
fn port_of_its_own_is_kept_only_inside_the_pods_share() {
    let rig = with_ports();
    let kept = |of_a: bool, pod| {
        let is_kept = |port: &u16| {
            let question = Frame::udp((pod, *port), (Rig::INTERNET, 53));
            let outcome = if of_a { rig.from_pod_a(&question) } else { rig.from_pod_b(&question) };
            outcome.frame.source() == (Rig::NODE, *port)
        };
        (PORTS.first..PORTS.first + 256).filter(is_kept).collect::<BTreeSet<u16>>()
    };
    let (of_a, of_b) = (kept(true, Rig::POD_A), kept(false, Rig::POD_B));
    // One of each block; some are taken already by a flow whose own port was none of the share.
    assert!((32..=64).contains(&of_a.len()) && (32..=64).contains(&of_b.len()), "{} and {}", of_a.len(), of_b.len());
    assert_ne!(of_a, of_b);
}

const FLOW_SHARE: u32 = 3;

fn with_flows() -> Rig {
    Rig::with(Constants { pod_flow_share: FLOW_SHARE, ..Rig::constants() }, 16)
}

/// Opens a flow to the VNet, whose reply assures it; its verdict is the reply's.
fn open(rig: &Rig, of_a: bool, pod: IpAddr, peer: IpAddr, port: u16) -> bpf_tests::Outcome {
    let question = Frame::tcp((pod, port), (peer, 443), "S");
    let asked = if of_a { rig.from_pod_a(&question) } else { rig.from_pod_b(&question) };
    asked.keeps("question", &ToWire(question.clone().one_hop_on()));
    rig.from_wire(&Frame::tcp((peer, 443), (pod, port), "SA"))
}

fn reply(pod: IpAddr, peer: IpAddr, port: u16) -> bpf_tests::Promise {
    ToPod(Frame::tcp((peer, 443), (pod, port), "SA").one_hop_on())
}

fn flows_of(rig: &Rig) -> BTreeMap<IpAddr, u64> {
    rig.tables().pod_flows().unwrap().into_iter().filter(|(_, flows)| *flows > 0).collect()
}

#[test]
fn pod_that_has_its_share_of_the_connection_table_gets_no_more_and_others_do() {
    let rig = with_flows();
    let families: [[IpAddr; 3]; 2] = [
        [Rig::POD_A.into(), Rig::POD_B.into(), Rig::PEER.into()],
        [Rig::POD_A6.into(), Rig::POD_B6.into(), Rig::PEER6.into()],
    ];
    for [a, b, peer] in families {
        for port in 1..=3 {
            open(&rig, true, a, peer, port).keeps("within the share", &reply(a, peer, port));
        }
        open(&rig, true, a, peer, 4).keeps("one more", &Dropped(PodFlowShare));
        for port in 1..=3 {
            open(&rig, true, a, peer, port).keeps("a known one goes on", &reply(a, peer, port));
            open(&rig, false, b, peer, port).keeps("the other pod's", &reply(b, peer, port));
        }
        let counted = rig.tables().pod_flows().unwrap();
        assert_eq!((counted[&a], counted[&b]), (3, 3));
    }
}

#[test]
fn flow_from_outside_counts_for_the_pod_and_flows_of_the_stack_are_not_refused() {
    let rig = with_flows();
    let (a, peer) = ((Rig::POD_A, 8080), |port| (Rig::PEER, port));
    let connect = |port| {
        assert_eq!(rig.from_wire(&Frame::tcp(peer(port), a, "S")).verdict, Verdict::ToPod);
        assert_eq!(rig.from_pod_a(&Frame::tcp(a, peer(port), "SA")).verdict, Verdict::ToWire);
        rig.from_wire(&Frame::tcp(peer(port), a, "A"))
    };
    for port in 1..=3 {
        assert_eq!(connect(port).verdict, Verdict::ToPod);
    }
    assert_eq!(flows_of(&rig), BTreeMap::from([(Rig::POD_A.into(), 3)]));
    connect(4).keeps("one more", &Dropped(PodFlowShare));

    let (probe, host) = ((Rig::POD_A, 8081), (Rig::NODE, 45_000));
    for flags in ["S", "A", "FA"] {
        assert_eq!(rig.stack_to_pod_a(&Frame::tcp(host, probe, flags)).verdict, Verdict::Pass, "{flags}");
        assert_eq!(rig.from_pod_a(&Frame::tcp(probe, host, "SA")).verdict, Verdict::Pass, "{flags}");
    }
}

#[test]
fn share_comes_back_as_flows_expire_are_swept_or_scrubbed() {
    let mut rig = with_flows();
    let (a, peer): (IpAddr, IpAddr) = (Rig::POD_A.into(), Rig::PEER.into());
    let fill = |rig: &Rig| {
        for port in 1..=3 {
            open(rig, true, a, peer, port).keeps("within the share", &reply(a, peer, port));
        }
        open(rig, true, a, peer, 4).keeps("one more", &Dropped(PodFlowShare));
        assert_eq!(flows_of(rig), BTreeMap::from([(a, 3)]));
    };
    fill(&rig);
    rig.expire_flows();
    // What expired is found and removed by the packet that opens the flow again.
    fill(&rig);
    rig.restart_agent();
    assert_eq!(flows_of(&rig), BTreeMap::from([(a, 3)]), "the next agent knows them");
    open(&rig, true, a, peer, 5).keeps("and so do its programs", &Dropped(PodFlowShare));
    rig.tables().sweep(&mut Sweeper::default(), now_ns() + 1_000_000 * NS_PER_SEC).unwrap();
    assert_eq!(flows_of(&rig), BTreeMap::new());
    fill(&rig);
    rig.tables().scrub(a).unwrap();
    assert_eq!(flows_of(&rig), BTreeMap::new());
    fill(&rig);
    rig.tables().remove_endpoint(a).unwrap();
    assert!(!rig.tables().pod_flows().unwrap().contains_key(&a));
}

#[test]
fn flows_that_were_counted_wrongly_are_counted_again() {
    let rig = with_flows();
    let (a, peer): (IpAddr, IpAddr) = (Rig::POD_A.into(), Rig::PEER.into());
    for port in 1..=3 {
        open(&rig, true, a, peer, port).keeps("within the share", &reply(a, peer, port));
    }
    // As an agent does that is killed in the middle.
    let key = FlowKey::of(&tuple((Rig::POD_A, 1), (Rig::PEER, 443), 6)).0;
    rig.flows()[0].remove(&key).unwrap();
    open(&rig, true, a, peer, 4).keeps("the count is too high", &Dropped(PodFlowShare));
    rig.tables().sweep(&mut Sweeper::default(), now_ns()).unwrap();
    assert_eq!(flows_of(&rig), BTreeMap::from([(a, 2)]));
    open(&rig, true, a, peer, 4).keeps("there is room", &reply(a, peer, 4));
    open(&rig, true, a, peer, 5).keeps("and no more", &Dropped(PodFlowShare));
}

#[test]
fn refusals_of_one_pod_are_not_remembered_of_another() {
    let range = PortRange { first: 2000, last: 2127 };
    let mut rig = Rig::with_tables(Constants { nat_ports: range, ..Rig::constants() }, 1024, 8192);
    let counter = rig.count_instructions();
    for [a, b, to] in [
        [Rig::POD_A.into(), Rig::POD_B.into(), Rig::INTERNET.into()],
        [Rig::POD_A6.into(), Rig::POD_B6.into(), Rig::INTERNET6.into()],
    ] {
        // All ports are the other pod's, and it is refused one more.
        let (taken, refused) = ports_given(&rig, false, b, (to, 53), 3000);
        assert!(taken.len() == 128 && refused > 0);
        let cost = |port| {
            let before = counter.total();
            rig.from_pod_a(&Frame::udp((a, port), (to, 53))).keeps("no port", &Dropped(NatPortsExhausted));
            counter.total() - before
        };
        let first = cost(40_000);
        let next = cost(40_001);
        assert!(next * 4 < first, "{next} instructions after {first}");
    }
}

#[test]
fn refusals_of_a_moment_cost_a_fraction_of_the_first_and_end_with_the_first_port() {
    let range = PortRange { first: 2000, last: 2127 };
    let mut rig = Rig::with_tables(Constants { nat_ports: range, ..Rig::constants() }, 1024, 8192);
    let counter = rig.count_instructions();
    for [a, to] in [[Rig::POD_A.into(), Rig::INTERNET.into()], [Rig::POD_A6.into(), Rig::INTERNET6.into()]] {
        let (taken, _) = ports_given(&rig, true, a, (to, 53), 3000);
        assert_eq!(taken.len(), 128, "all of them");
        rig.forget_refusals();
        let refused = |port| {
            let before = counter.total();
            rig.from_pod_a(&Frame::udp((a, port), (to, 53))).keeps("no port", &Dropped(NatPortsExhausted));
            counter.total() - before
        };
        let first = refused(40_000);
        for port in 40_001..40_010 {
            let next = refused(port);
            assert!(next * 4 < first, "{next} instructions after {first}");
        }
        let elsewhere = rig.from_pod_a(&Frame::udp((a, 40_000), (to, 54)));
        assert_eq!(elsewhere.verdict, Verdict::ToWire, "another destination is not remembered");
        rig.forget_refusals();
        assert!(refused(40_011) * 2 > first, "the moment is over");
    }
}
