//! Maps of another size than the pinned ones: nothing that they hold is lost, wherever an agent is killed meanwhile.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};

use aya::maps::{HashMap, Map, MapData};
use azure_cni_common::family::{Ipv4, UDP};
use azure_cni_common::flow::{Flow, FlowKey};
use azure_cni_datapath::{Constants, DatapathError, Settings, TableFill, Why};
use bpf_tests::Promise::{ToPod, ToWire};
use bpf_tests::{Frame, Rig, tuple};

const A: (Ipv4Addr, u16) = (Rig::POD_A, 20_000);
const NODE: (Ipv4Addr, u16) = (Rig::NODE, 20_000);
const INTERNET: (Ipv4Addr, u16) = (Rig::INTERNET, 443);
const A6: (Ipv6Addr, u16) = (Rig::POD_A6, 20_000);
const NODE6: (Ipv6Addr, u16) = (Rig::NODE6, 20_000);
const INTERNET6: (Ipv6Addr, u16) = (Rig::INTERNET6, 443);

fn sized(flows: u32, half_open: u32) -> impl FnOnce(&mut Settings) {
    move |settings| (settings.max_flows, settings.max_half_open) = (flows, half_open)
}

/// An assured and a half-open flow of each family, all translated.
fn open_flows(rig: &Rig) {
    rig.from_pod_a(&Frame::tcp(A, INTERNET, "S"));
    rig.from_wire(&Frame::tcp(INTERNET, NODE, "SA"));
    rig.from_pod_a(&Frame::tcp(A, INTERNET, "A"));
    rig.from_pod_a(&Frame::tcp(A6, INTERNET6, "S"));
    rig.from_wire(&Frame::tcp(INTERNET6, NODE6, "SA"));
    rig.from_pod_a(&Frame::tcp(A6, INTERNET6, "A"));
    rig.from_pod_a(&Frame::udp(A, INTERNET));
    rig.from_pod_a(&Frame::udp(A6, INTERNET6));
    assert_eq!((rig.flow_count(), rig.translation_count()), (4, 4));
}

fn all_flows_go_on(rig: &Rig, when: &str) {
    let next = Frame::tcp(NODE, INTERNET, "A").one_hop_on();
    rig.from_pod_a(&Frame::tcp(A, INTERNET, "A")).keeps(when, &ToWire(next));
    rig.from_wire(&Frame::tcp(INTERNET, NODE, "A")).keeps(when, &ToPod(Frame::tcp(INTERNET, A, "A").one_hop_on()));
    rig.from_wire(&Frame::udp(INTERNET, NODE)).keeps(when, &ToPod(Frame::udp(INTERNET, A).one_hop_on()));
    let next = Frame::tcp(NODE6, INTERNET6, "A").one_hop_on();
    rig.from_pod_a(&Frame::tcp(A6, INTERNET6, "A")).keeps(when, &ToWire(next));
    rig.from_wire(&Frame::tcp(INTERNET6, NODE6, "A")).keeps(when, &ToPod(Frame::tcp(INTERNET6, A6, "A").one_hop_on()));
    rig.from_wire(&Frame::udp(INTERNET6, NODE6)).keeps(when, &ToPod(Frame::udp(INTERNET6, A6).one_hop_on()));
}

fn max(rig: &Rig, name: &str) -> u64 {
    let fills: Vec<TableFill> = rig.tables().fills().unwrap();
    fills.iter().find(|fill| fill.name == name).unwrap_or_else(|| panic!("{name}")).max
}

fn maxima(rig: &Rig) -> [u64; 4] {
    ["FLOWS4", "NAT6", "HALF_OPEN6", "NAT_HALF_OPEN4"].map(|name| max(rig, name))
}

/// Nothing is left of the change.
fn expect_settled(rig: &Rig) {
    for dir in ["filling", "swapping"] {
        assert!(!rig.pins().join(dir).exists(), "{dir} is left");
    }
    assert!(!rig.datapath().is_unsettled());
}

#[test]
fn tables_get_larger_and_smaller_and_every_flow_goes_on() {
    let mut rig = Rig::patient();
    open_flows(&rig);
    for (flows, half_open) in [(4096, 1024), (4096, 2048), (256, 128), (1024, 512)] {
        let when = format!("{flows} {half_open}");
        rig.reopen(sized(flows, half_open)).unwrap();
        assert!(rig.datapath().is_unsettled());
        all_flows_go_on(&rig, &format!("{when}, while programs are swapped"));
        rig.datapath().settle().unwrap();
        assert_eq!(maxima(&rig), [flows, flows, half_open, half_open].map(u64::from), "{when}");
        all_flows_go_on(&rig, &when);
        assert_eq!((rig.datapath().size_problems(), rig.translation_count()), (vec![], 4));
        expect_settled(&rig);
    }
    assert_eq!(rig.tables().endpoints().unwrap().len(), 4);
}

#[test]
fn agent_with_the_same_sizes_changes_no_map() {
    let mut rig = Rig::patient();
    let id = |rig: &Rig| rig.map_data("FLOWS4").info().unwrap().id();
    let before = id(&rig);
    rig.restart_agent();
    assert!(!rig.datapath().is_unsettled());
    assert_eq!(id(&rig), before);
    expect_settled(&rig);
}

fn key(port: u16) -> FlowKey<Ipv4> {
    FlowKey::of(&tuple((Rig::POD_A, port), INTERNET, UDP)).0
}

#[test]
fn what_earlier_programs_write_until_they_are_swapped_is_carried_over_too() {
    let mut rig = Rig::patient();
    open_flows(&rig);
    let [mut before, ..] = rig.flows();
    let (established, flow) = before.iter().next().unwrap().unwrap();
    for port in [1, 2, 3] {
        before.insert(key(port), flow, 0).unwrap();
    }
    rig.reopen(sized(2048, 1024)).unwrap();
    let successor = MapData::from_pin(rig.pins().join("swapping/FLOWS4")).unwrap();
    let mut successor: HashMap<_, FlowKey<Ipv4>, Flow> = HashMap::try_from(Map::HashMap(successor)).unwrap();
    let at = |expires_ns| Flow { expires_ns, ..flow };
    // Earlier programs: a new flow, one that goes on. New ones: another that goes on, one that ends, one of both.
    before.insert(key(4), at(40), 0).unwrap();
    before.insert(key(1), at(10), 0).unwrap();
    successor.insert(key(2), at(20), 0).unwrap();
    successor.remove(&key(3)).unwrap();
    before.insert(established, at(50), 0).unwrap();
    successor.insert(established, at(60), 0).unwrap();
    rig.datapath().settle().unwrap();

    let [flows, ..] = rig.flows();
    let expiry = |key: FlowKey<Ipv4>| flows.get(&key, 0).ok().map(|flow| flow.expires_ns);
    assert_eq!([1, 2, 3, 4].map(|port| expiry(key(port))), [Some(10), Some(20), None, Some(40)]);
    assert_eq!(expiry(established), Some(60), "what the new programs say counts");
    expect_settled(&rig);
}

#[test]
fn table_that_cannot_hold_its_flows_keeps_its_size_until_it_can_and_says_so() {
    let mut rig = Rig::patient();
    open_flows(&rig);
    let [mut flows, mut half_open, _] = rig.flows();
    let (_, flow) = flows.iter().next().unwrap().unwrap();
    for port in 1..=60 {
        flows.insert(key(port), flow, 0).unwrap();
        half_open.insert(key(port), flow, 0).unwrap();
    }
    rig.restart_with(sized(64, 64));
    let problems = rig.datapath().size_problems();
    let kept: Vec<_> =
        problems.iter().map(|problem| (&*problem.table, problem.asked, problem.in_force, &problem.why)).collect();
    assert_eq!(kept.len(), 2, "{kept:?}");
    for (table, entries) in [("FLOWS4", 61), ("HALF_OPEN4", 60)] {
        assert!(kept.contains(&(table, 64, 1024, &Why::InUse(entries))), "{kept:?}");
        assert_eq!(max(&rig, table), 1024);
    }
    assert_eq!((max(&rig, "FLOWS6"), max(&rig, "NAT4")), (64, 64), "what fits is in force");
    all_flows_go_on(&rig, "kept");
    expect_settled(&rig);

    let [mut flows, mut half_open, _] = rig.flows();
    for port in 1..=60 {
        flows.remove(&key(port)).unwrap();
        half_open.remove(&key(port)).unwrap();
    }
    rig.restart_with(|_| {});
    assert_eq!((rig.datapath().size_problems(), maxima(&rig)), (vec![], [64; 4]));
    all_flows_go_on(&rig, "smaller at last");
}

/// An agent is killed: its successor finds what it has left. `stop`: what the pins are like when it is.
fn killed_and_started_again(what: &str, stop: impl FnOnce(&Rig), finds: &[Why]) {
    let mut rig = Rig::patient();
    open_flows(&rig);
    let [mut earlier, ..] = rig.flows();
    let (_, flow) = earlier.iter().next().unwrap().unwrap();
    rig.reopen(sized(4096, 2048)).unwrap();
    stop(&rig);
    // Programs that were not swapped go on with the earlier maps, while they are pinned.
    let is_pinned = rig.map_data("FLOWS4").info().unwrap().max_entries() == 1024;
    if is_pinned {
        earlier.insert(key(9), flow, 0).unwrap();
    }
    rig.reopen(sized(512, 256)).unwrap();
    all_flows_go_on(&rig, what);
    rig.datapath().settle().unwrap();
    all_flows_go_on(&rig, what);
    assert_eq!(rig.flows()[0].get(&key(9), 0).is_ok(), is_pinned, "{what}");
    let mut whys: Vec<_> = rig.datapath().size_problems().into_iter().map(|problem| problem.why).collect();
    whys.dedup();
    assert_eq!(whys, finds, "{what}");
    expect_settled(&rig);
    rig.restart_with(|_| {});
    assert_eq!((maxima(&rig), rig.datapath().size_problems()), ([512, 512, 256, 256], vec![]), "{what}");
    all_flows_go_on(&rig, what);
}

#[test]
fn agent_killed_before_it_swaps_programs_is_followed_by_one_that_begins_again() {
    // All successors are filled, and no program that runs knows them.
    let unknown = |rig: &Rig| fs::rename(rig.pins().join("swapping"), rig.pins().join("filling")).unwrap();
    killed_and_started_again("filled", unknown, &[]);
    // The first successor was just made.
    let first = |rig: &Rig| {
        fs::rename(rig.pins().join("swapping"), rig.pins().join("filling")).unwrap();
        for pin in fs::read_dir(rig.pins().join("filling")).unwrap().map(Result::unwrap) {
            if pin.file_name() != "FLOWS4" {
                fs::remove_file(pin.path()).unwrap();
            }
        }
        let flows = MapData::from_pin(rig.pins().join("filling/FLOWS4")).unwrap();
        let mut flows: HashMap<_, FlowKey<Ipv4>, Flow> = HashMap::try_from(Map::HashMap(flows)).unwrap();
        let keys: Vec<_> = flows.keys().map(Result::unwrap).collect();
        keys.iter().for_each(|key| flows.remove(key).unwrap());
    };
    killed_and_started_again("not filled yet", first, &[]);
    let empty = |rig: &Rig| {
        fs::remove_dir_all(rig.pins().join("swapping")).unwrap();
        fs::create_dir(rig.pins().join("filling")).unwrap();
    };
    killed_and_started_again("nothing made yet", empty, &[]);
}

#[test]
fn agent_killed_while_it_swaps_programs_is_followed_by_one_that_finishes() {
    killed_and_started_again("swapped or not", |_| {}, &[Why::Unfinished]);
    // Some successors are known to programs, the others not yet.
    let some = |rig: &Rig| {
        fs::create_dir(rig.pins().join("filling")).unwrap();
        for name in ["NAT4", "FLOWS6", "HALF_OPEN4"] {
            fs::rename(rig.pins().join("swapping").join(name), rig.pins().join("filling").join(name)).unwrap();
        }
    };
    killed_and_started_again("about to swap", some, &[Why::Unfinished]);
    // All is swapped; some have taken the earlier maps' places.
    let settled = |rig: &Rig| {
        for name in ["FLOWS4", "NAT4", "HALF_OPEN6"] {
            fs::rename(rig.pins().join("swapping").join(name), rig.pins().join("maps").join(name)).unwrap();
        }
    };
    killed_and_started_again("settling", settled, &[Why::Unfinished]);
    let all = |rig: &Rig| {
        rig.datapath().settle().unwrap();
        fs::create_dir(rig.pins().join("swapping")).unwrap();
    };
    killed_and_started_again("settled, but for the directory", all, &[]);
}

#[test]
fn map_of_another_kind_or_size_is_carried_over_and_one_of_another_layout_refused() {
    let mut rig = Rig::patient();
    open_flows(&rig);
    let pin = |rig: &Rig, name: &str, kind, value_len, entries| {
        let (path, key_len) = (rig.pins().join("maps").join(name), if name == "ROUTES4" { 8 } else { 16 });
        let flags = if name == "ROUTES4" { 1 } else { 0 };
        let map = MapData::create(aya_obj::Map::new_from_params(kind, key_len, value_len, entries, flags), name, None)
            .unwrap();
        fs::remove_file(&path).unwrap();
        map.pin(&path).unwrap();
    };
    let [_, half_open, _] = rig.flows();
    let entries: Vec<_> = half_open.iter().map(Result::unwrap).collect();
    // BPF_MAP_TYPE_HASH and BPF_MAP_TYPE_LPM_TRIE (include/uapi/linux/bpf.h)
    pin(&rig, "HALF_OPEN4", 1, size_of::<Flow>() as u32, 1024);
    let mut plain: HashMap<_, FlowKey<Ipv4>, Flow> =
        HashMap::try_from(Map::HashMap(rig.map_data("HALF_OPEN4"))).unwrap();
    entries.iter().for_each(|(key, flow)| plain.insert(key, flow, 0).unwrap());
    pin(&rig, "ROUTES4", 11, 4, 4096);
    rig.restart_with(|_| {});
    all_flows_go_on(&rig, "another kind");
    assert_eq!(max(&rig, "ROUTES4"), 65_536);
    rig.tables().set_routes(&Rig::routes()).unwrap();

    let layout = size_of::<Flow>() as u32 + 8;
    pin(&rig, "HALF_OPEN4", 9, layout, 1024);
    let error = rig.reopen(|_| {}).unwrap_err();
    assert!(matches!(&error, DatapathError::Layout { map } if map == "HALF_OPEN4"), "{error}");
    assert!(rig.map_data("HALF_OPEN4").info().unwrap().value_size() == layout, "left alone");
}

#[test]
fn ipv6_comes_and_goes_while_flows_of_ipv4_go_on() {
    let mut rig = Rig::with(Constants { has_ipv6: false, ..Rig::patient_constants() }, 1024);
    rig.from_pod_a(&Frame::udp(A, INTERNET));
    let goes_on = |rig: &Rig, when: &str| {
        rig.from_wire(&Frame::udp(INTERNET, NODE)).keeps(when, &ToPod(Frame::udp(INTERNET, A).one_hop_on()));
    };
    for _ in 0..2 {
        rig.restart_with(|settings| settings.constants.has_ipv6 = true);
        goes_on(&rig, "on");
        rig.add_pod(Rig::POD_A6, "azva");
        let out = Frame::udp(NODE6, INTERNET6).one_hop_on();
        rig.from_pod_a(&Frame::udp(A6, INTERNET6)).keeps("IPv6", &ToWire(out));
        rig.from_wire(&Frame::udp(INTERNET6, NODE6)).keeps("IPv6", &ToPod(Frame::udp(INTERNET6, A6).one_hop_on()));
        rig.restart_with(|settings| settings.constants.has_ipv6 = false);
        goes_on(&rig, "off");
        assert_eq!(rig.datapath().size_problems(), vec![]);
        assert_eq!(rig.map_data("FLOWS6").info().unwrap().max_entries(), 1);
        expect_settled(&rig);
    }
}

#[test]
fn translations_of_ipv6_outlive_the_setting_that_made_them() {
    let mut rig = Rig::with_tables(Rig::patient_constants(), 4096, 2048);
    open_flows(&rig);
    for (snat6, entries) in [(false, 1024), (true, 4096)] {
        rig.restart_with(|settings| settings.constants.snat6 = snat6);
        assert_eq!(max(&rig, "NAT6"), entries);
        all_flows_go_on(&rig, &format!("snat6 {snat6}"));
    }
}
