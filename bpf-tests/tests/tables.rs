//! The agent's view of the maps: what it adds, removes and keeps.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use azure_cni_common::drop_reason::DropReason::SourceNotOwned;
use azure_cni_common::egress::RouteClass;
use azure_cni_common::endpoint::{EndpointFlags, Slot, slot_of};
use azure_cni_common::family::{Be16, Ipv4};
use azure_cni_common::lifetime::NS_PER_SEC;
use azure_cni_common::nat::{NatHolder, NatKey};
use azure_cni_datapath::{Datapath, DatapathError, EndpointEntry, Hook, Sweeper};
use bpf_tests::Promise::{Dropped, ToPod, ToWire, Untouched};
use bpf_tests::{Frame, Rig, Verdict, ifindex, now_ns, tuple};

const A: (Ipv4Addr, u16) = (Rig::POD_A, 20_000);
const B: (Ipv4Addr, u16) = (Rig::POD_B, 20_001);
const NODE: (Ipv4Addr, u16) = (Rig::NODE, 20_000);
const PEER: (Ipv4Addr, u16) = (Rig::PEER, 80);
const INTERNET: (Ipv4Addr, u16) = (Rig::INTERNET, 443);
const UDP: u8 = 17;

/// One step of a sweep that begins: flows and translations removed.
fn sweep(rig: &Rig, now_ns: u64) -> (usize, usize) {
    let report = rig.tables().sweep(&mut Sweeper::default(), now_ns).unwrap();
    (report.removed_flows, report.removed_translations)
}

#[test]
fn sweep_takes_what_has_expired_and_nothing_else() {
    let rig = Rig::new();
    assert_eq!(rig.from_pod_a(&Frame::udp(A, INTERNET)).verdict, Verdict::ToWire);
    assert_eq!(rig.from_pod_a(&Frame::udp(A, PEER)).verdict, Verdict::ToWire);
    rig.expire_flows();
    assert_eq!(rig.from_pod_b(&Frame::udp(B, INTERNET)).verdict, Verdict::ToWire);
    rig.to_wire(&Frame::udp(NODE, (Rig::INTERNET, 80))).keeps("a flow of the host", &Untouched);

    assert_eq!(sweep(&rig, now_ns()), (2, 1));
    assert_eq!(rig.flow_count(), 2);
    assert!(rig.flow(&tuple(B, INTERNET, UDP)).is_some());
    let reply = ToPod(Frame::udp(INTERNET, B).one_hop_on());
    rig.from_wire(&Frame::udp(INTERNET, (Rig::NODE, B.1))).keeps("a live flow's reply", &reply);
    rig.from_wire(&Frame::udp(INTERNET, NODE)).keeps("a dead flow's reply", &Untouched);

    assert_eq!(sweep(&rig, now_ns()), (0, 0), "a second sweep");
    assert_eq!(rig.flow_count(), 2);
}

#[test]
fn sweep_leaves_a_flow_that_has_just_expired_a_moment_more() {
    let rig = Rig::new();
    assert_eq!(rig.from_pod_a(&Frame::udp(A, INTERNET)).verdict, Verdict::ToWire);
    let expires_ns = rig.flow(&tuple(A, INTERNET, UDP)).unwrap().expires_ns;
    for (after_secs, removed) in [(0, 0), (1, 0), (6, 1)] {
        let (removed_flows, _) = sweep(&rig, expires_ns + after_secs * NS_PER_SEC);
        assert_eq!(removed_flows, removed, "{after_secs} s after its end");
    }
}

#[test]
fn sweep_takes_translations_that_no_flow_holds() {
    let rig = Rig::new();
    assert_eq!(rig.from_pod_a(&Frame::udp(A, INTERNET)).verdict, Verdict::ToWire);
    rig.to_wire(&Frame::udp(NODE, (Rig::INTERNET, 80))).keeps("a flow of the host", &Untouched);
    let orphan = |holder: Ipv4Addr, node_port| {
        let key = NatKey {
            remote: Ipv4::from(INTERNET.0),
            node: Ipv4::from(Rig::NODE),
            remote_port: Be16::from_host(INTERNET.1),
            node_port: Be16::from_host(node_port),
            protocol: UDP.into(),
        };
        (key, NatHolder::new(holder.into(), Be16::from_host(A.1), now_ns()))
    };
    // Of no flow; of a flow that holds another port; of the host, without a flow.
    for (key, holder) in [orphan(Rig::POD_B, 5000), orphan(Rig::POD_A, 5001), orphan(Rig::NODE, 5002)] {
        for mut table in rig.translations() {
            table.insert(key, holder, 0).unwrap();
        }
    }
    let mut sweeper = Sweeper::default();
    // A translation is claimed a moment before its flow is remembered: an orphan is one that has no flow at two looks.
    for (look, removed) in [("first", 0), ("second", 6), ("third", 0)] {
        let report = rig.tables().sweep(&mut sweeper, now_ns()).unwrap();
        assert_eq!((report.removed_flows, report.removed_translations), (0, removed), "{look} look");
    }
    assert_eq!((rig.flow_count(), rig.translation_count()), (2, 2));
}

#[test]
fn sweep_of_a_translation_lets_its_lost_flow_be() {
    let rig = Rig::new();
    assert_eq!(rig.from_pod_a(&Frame::udp(A, INTERNET)).verdict, Verdict::ToWire);
    rig.lose_flows();
    let mut sweeper = Sweeper::default();
    for removed in [0, 1] {
        let report = rig.tables().sweep(&mut sweeper, now_ns()).unwrap();
        assert_eq!((report.removed_flows, report.removed_translations), (0, removed));
    }
    let again = ToWire(Frame::udp(NODE, INTERNET).one_hop_on());
    rig.from_pod_a(&Frame::udp(A, INTERNET)).keeps("the pod goes on", &again);
}

#[test]
fn scrub_takes_every_entry_of_an_address_and_no_other() {
    let rig = Rig::new();
    for (packet, of_a) in [
        (Frame::udp(A, INTERNET), true),
        (Frame::udp(A, PEER), true),
        (Frame::udp(A, B), true),
        (Frame::udp(B, INTERNET), false),
        (Frame::udp(B, PEER), false),
    ] {
        let sender = if of_a { rig.from_pod_a(&packet) } else { rig.from_pod_b(&packet) };
        assert!(matches!(sender.verdict, Verdict::ToWire | Verdict::ToPod));
    }
    let inbound = Frame::udp(PEER, (Rig::POD_A, 80));
    rig.from_wire(&inbound).keeps("inbound", &ToPod(inbound.clone().one_hop_on()));
    rig.to_wire(&Frame::udp(NODE, (Rig::INTERNET, 80))).keeps("a flow of the host", &Untouched);

    // Three flows opened by A, one to it, one translation.
    assert_eq!(rig.tables().scrub(Rig::POD_A.into()).unwrap(), 5);
    let a = Ipv4::from(Rig::POD_A);
    for flows in rig.flows() {
        assert!(flows.keys().all(|key| key.is_ok_and(|key| key.low != a && key.high != a)));
    }
    for translations in rig.translations() {
        assert!(translations.iter().all(|entry| entry.is_ok_and(|(_, holder)| holder.address != a)));
    }
    assert_eq!((rig.flow_count(), rig.translation_count()), (3, 2));
    assert_eq!(rig.tables().scrub(Rig::POD_A.into()).unwrap(), 0);
}

#[test]
fn next_pod_with_an_address_receives_nothing_of_the_last() {
    let rig = Rig::new();
    assert_eq!(rig.from_pod_a(&Frame::udp(A, INTERNET)).verdict, Verdict::ToWire);
    rig.tables().remove_endpoint(Rig::POD_A.into()).unwrap();
    rig.tables().scrub(Rig::POD_A.into()).unwrap();
    rig.add_pod(Rig::POD_A, "azvb");
    rig.from_wire(&Frame::udp(INTERNET, NODE)).keeps("the last one's reply", &Untouched);
}

#[test]
fn routes_are_replaced_as_a_whole() {
    let rig = Rig::new();
    let tables = rig.tables();
    let to = |destination: [u8; 4]| {
        rig.lose_flows_if_any();
        let outcome = rig.from_pod_a(&Frame::udp(A, (destination.into(), 53)));
        (outcome.verdict, outcome.frame.source().0)
    };
    let (vnet, internet, host) =
        ((Verdict::ToWire, Rig::POD_A), (Verdict::ToWire, Rig::NODE), (Verdict::Pass, Rig::POD_A));
    assert_eq!([to([10, 240, 9, 9]), to([10, 1, 0, 1]), to([172, 16, 0, 1])], [vnet, internet, internet]);

    let routes = BTreeMap::from([
        ("10.0.0.0/8".parse().unwrap(), RouteClass::VNET),
        ("10.1.0.0/16".parse().unwrap(), RouteClass::HOST),
        ("172.16.0.1/32".parse().unwrap(), RouteClass::VNET),
    ]);
    tables.set_routes(&routes).unwrap();
    assert_eq!([to([10, 240, 9, 9]), to([10, 1, 0, 1]), to([172, 16, 0, 1])], [vnet, host, vnet]);
    assert_eq!([to([10, 2, 0, 1]), to([172, 16, 0, 2])], [vnet, internet], "longest prefix, and no more than it");

    tables.set_routes(&BTreeMap::from([("0.0.0.0/0".parse().unwrap(), RouteClass::VNET)])).unwrap();
    assert_eq!([to([10, 240, 9, 9]), to([10, 1, 0, 1]), to([8, 8, 8, 8])], [vnet; 3]);
    tables.set_routes(&BTreeMap::new()).unwrap();
    assert_eq!([to([10, 240, 9, 9]), to([10, 1, 0, 1]), to([172, 16, 0, 1])], [internet; 3]);
}

#[test]
fn endpoints_are_set_replaced_and_removed() {
    let rig = Rig::new();
    let tables = rig.tables();
    let addresses = || tables.endpoints().unwrap().into_keys().collect::<BTreeSet<_>>();
    let all: BTreeSet<IpAddr> = [Rig::POD_A.into(), Rig::POD_B.into(), Rig::POD_A6.into(), Rig::POD_B6.into()].into();
    for address in [IpAddr::from(Rig::POD_A), Rig::POD_A6.into()] {
        assert_eq!(addresses(), all);
        assert_eq!(tables.endpoint(address).unwrap(), Some(Rig::endpoint(address, "azva")));
        tables.set_endpoint(address, EndpointEntry::at(ifindex("azvb"))).unwrap();
        assert_eq!(tables.endpoint(address).unwrap(), Some(EndpointEntry::at(ifindex("azvb"))));
        tables.remove_endpoint(address).unwrap();
        tables.remove_endpoint(address).unwrap();
        assert_eq!(tables.endpoint(address).unwrap(), None);
        let rest: BTreeSet<IpAddr> = all.iter().copied().filter(|other| *other != address).collect();
        assert_eq!(addresses(), rest);
        rig.add_pod(address, "azva");
    }
}

/// A second pod whose address the cache has no slot of its own for.
fn shares_a_slot_with_pod_a() -> Ipv4Addr {
    let shared = slot_of(Ipv4::from(Rig::POD_A));
    let addresses = (2..=u16::MAX).map(|host| Ipv4Addr::from(0x0af0_0000 | u32::from(host)));
    addresses.into_iter().find(|address| *address != Rig::POD_A && slot_of(Ipv4::from(*address)) == shared).unwrap()
}

#[test]
fn pods_that_share_a_slot_of_the_cache_are_told_apart() {
    let rig = Rig::new();
    let (tables, c) = (rig.tables(), (shares_a_slot_with_pod_a(), 20_002));
    let to = |destination| Frame::udp(B, destination);
    let delivered = |destination| ToPod(to(destination).one_hop_on());
    let flagged = Rig::endpoint(c.0, "azvb").with_flags(EndpointFlags::KEEP_SOURCE);

    rig.from_pod_b(&to(c)).keeps("no pod has the address", &ToWire(to(c).one_hop_on()));
    tables.set_endpoint(c.0.into(), flagged).unwrap();
    for _ in 0..2 {
        rig.from_pod_b(&to(A)).keeps("the first pod", &delivered(A));
        rig.from_pod_b(&to(c)).keeps("the second pod", &delivered(c));
        rig.from_pod_a(&Frame::udp(c, B)).keeps("the second's address from the first", &Dropped(SourceNotOwned));
        let kept = Frame::udp(c, INTERNET);
        rig.from_pod_b(&kept).keeps("what is special about the second", &ToWire(kept.clone().one_hop_on()));
    }
    tables.remove_endpoint(Rig::POD_A.into()).unwrap();
    rig.from_pod_b(&to(c)).keeps("the second pod, alone", &delivered(c));
    rig.from_pod_a(&Frame::udp(A, B)).keeps("a pod that went", &Dropped(SourceNotOwned));
    tables.remove_endpoint(c.0.into()).unwrap();
    rig.from_pod_b(&Frame::udp(c, INTERNET)).keeps("both went", &Dropped(SourceNotOwned));
}

#[test]
fn restarted_agent_makes_the_cache_again() {
    let mut rig = Rig::patient();
    let stale = Slot::of([(Ipv4::from(Rig::PEER), EndpointEntry::at(ifindex("azvb")))]);
    let mut cache = rig.endpoint_cache();
    for address in [Rig::POD_A, Rig::PEER] {
        cache.set(slot_of(Ipv4::from(address)), stale, 0).unwrap();
    }
    rig.from_pod_a(&Frame::udp(A, PEER)).keeps("before", &Dropped(SourceNotOwned));
    rig.restart_agent();
    rig.from_pod_a(&Frame::udp(A, PEER)).keeps("after", &ToWire(Frame::udp(A, PEER).one_hop_on()));
}

/// The programs on the interfaces use these maps until they are replaced, so none may be made again.
#[test]
fn upgraded_agent_carries_over_what_an_earlier_layout_had() {
    let mut rig = Rig::patient();
    assert_eq!(rig.from_pod_a(&Frame::tcp(A, INTERNET, "S")).verdict, Verdict::ToWire);
    assert_eq!(rig.from_wire(&Frame::tcp(INTERNET, NODE, "SA")).verdict, Verdict::ToPod);
    assert_eq!(rig.from_pod_b(&Frame::udp(A, INTERNET)).verdict, Verdict::Drop);
    rig.upgrade_agent_that_pinned(&["ENDPOINTS4", "ROUTES4", "FLOWS4", "NAT4", "DROPS"]);

    let reply = ToPod(Frame::tcp(INTERNET, A, "A").one_hop_on());
    rig.from_wire(&Frame::tcp(INTERNET, NODE, "A")).keeps("reply to an earlier flow", &reply);
    let next = ToWire(Frame::tcp(NODE, INTERNET, "A").one_hop_on());
    rig.from_pod_a(&Frame::tcp(A, INTERNET, "A")).keeps("its next segment, from the same port", &next);
    let vnet = Frame::udp(A, PEER);
    rig.from_pod_a(&vnet).keeps("earlier routes", &ToWire(vnet.clone().one_hop_on()));
    let refused = rig.tables().drops().unwrap();
    let refused = refused.iter().find(|counter| counter.reason == SourceNotOwned).unwrap();
    assert_eq!(refused.per_cpu.iter().sum::<u64>(), 1, "earlier counts");
}

/// The agent that carried over the other maps was killed.
#[test]
fn carrying_over_goes_on_where_it_was_broken_off() {
    let mut rig = Rig::patient();
    rig.upgrade_agent_that_pinned(&["ENDPOINTS4"]);
    assert_eq!(rig.tables().endpoint(Rig::POD_A.into()).unwrap().map(|pod| pod.ifindex), Some(ifindex("azva")));
}

#[test]
fn pins_of_an_unknown_layout_are_refused_and_left_alone() {
    let rig = Rig::new();
    let unknown = rig.settings().dir.join("abi99");
    std::fs::create_dir(&unknown).unwrap();
    let error = Datapath::open(rig.settings()).err().expect("another version's programs would run beside ours");
    assert!(matches!(&error, DatapathError::UnknownLayout { path } if *path == unknown), "{error}");
    assert!(unknown.is_dir() && error.to_string().contains("abi99"), "{error}");
    std::fs::remove_dir(&unknown).unwrap();
}

#[test]
fn restarted_agent_finds_everything_as_it_was() {
    let mut rig = Rig::patient();
    assert_eq!(rig.from_pod_a(&Frame::udp(A, INTERNET)).verdict, Verdict::ToWire);
    assert_eq!(rig.from_pod_b(&Frame::udp(A, INTERNET)).verdict, Verdict::Drop);
    let drops =
        |rig: &Rig| -> u64 { rig.tables().drops().unwrap().iter().flat_map(|counter| counter.per_cpu.clone()).sum() };
    let before = drops(&rig);
    let old_program = rig.program(Hook::FromWire).info().unwrap().id();

    rig.restart_agent();

    let new_program = rig.program(Hook::FromWire).info().unwrap().id();
    assert_ne!(new_program, old_program, "the programs are new");
    assert_eq!(drops(&rig), before);
    assert_eq!(rig.tables().endpoint(Rig::POD_B.into()).unwrap(), Some(Rig::endpoint(Rig::POD_B, "azvb")));
    assert!(rig.tables().fills().unwrap().iter().all(|fill| fill.name.starts_with("ROUTES") || fill.max == 1024));
    let reply = ToPod(Frame::udp(INTERNET, A).one_hop_on());
    rig.from_wire(&Frame::udp(INTERNET, NODE)).keeps("reply to an earlier flow", &reply);
    let vnet = Frame::udp(A, PEER);
    rig.from_pod_a(&vnet).keeps("earlier routes", &ToWire(vnet.clone().one_hop_on()));
}

#[test]
fn drops_are_counted_per_reason() {
    let rig = Rig::new();
    for _ in 0..3 {
        assert_eq!(rig.from_pod_b(&Frame::udp(A, PEER)).verdict, Verdict::Drop);
    }
    let counted: Vec<(&str, u64)> = rig
        .tables()
        .drops()
        .unwrap()
        .iter()
        .map(|counter| (counter.reason.name(), counter.per_cpu.iter().sum()))
        .filter(|(_, sum)| *sum != 0)
        .collect();
    assert_eq!(counted, [("source_not_owned", 3)]);
}
