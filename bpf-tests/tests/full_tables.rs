//! Full tables of assured flows: a flow that would promote is refused and counted, assured ones go on, and the host still
//! reaches its pods. Tables of half-open flows do not fill up: see `half_open`.

use std::net::Ipv4Addr;

use azure_cni_common::drop_reason::DropReason::{FlowTableFull, NatTableFull};
use azure_cni_common::family::{Be16, Ipv4};
use azure_cni_common::nat::{NatHolder, NatKey};
use bpf_tests::Promise::{Dropped, Passes, ToPod, ToWire, Untouched};
use bpf_tests::{Frame, Rig};

const MAX_FLOWS: u16 = 4;
const INTERNET: (Ipv4Addr, u16) = (Rig::INTERNET, 443);
const PEER: (Ipv4Addr, u16) = (Rig::PEER, 53);

fn a(port: u16) -> (Ipv4Addr, u16) {
    (Rig::POD_A, port)
}

fn node(port: u16) -> (Ipv4Addr, u16) {
    (Rig::NODE, port)
}

fn asks(rig: &Rig, what: &str, port: u16) {
    let out = ToWire(Frame::tcp(node(port), INTERNET, "S").one_hop_on());
    rig.from_pod_a(&Frame::tcp(a(port), INTERNET, "S")).keeps(what, &out);
}

fn gets_reply(rig: &Rig, what: &str, port: u16) {
    let back = ToPod(Frame::tcp(INTERNET, a(port), "SA").one_hop_on());
    rig.from_wire(&Frame::tcp(INTERNET, node(port), "SA")).keeps(what, &back);
}

/// With assured flows from ports 20000 on, to the Internet.
fn full() -> Rig {
    let rig = Rig::with(Rig::constants(), MAX_FLOWS.into());
    for port in 20_000..20_000 + MAX_FLOWS {
        asks(&rig, "question", port);
        gets_reply(&rig, "reply", port);
    }
    rig
}

fn live_ones_go_on(rig: &Rig) {
    for port in 20_000..20_000 + MAX_FLOWS {
        asks(rig, "a live one", port);
        gets_reply(rig, "its reply", port);
    }
}

#[test]
fn full_connection_table_refuses_what_would_be_promoted_and_keeps_the_live_ones() {
    let rig = full();
    let refused = Dropped(FlowTableFull);
    let to_vnet = Frame::tcp(a(21_000), PEER, "S");
    rig.from_pod_a(&to_vnet).keeps("to the VNet", &ToWire(to_vnet.clone().one_hop_on()));
    rig.from_wire(&Frame::tcp(PEER, a(21_000), "SA")).keeps("reply from the VNet", &refused);

    let (here, there) = (a(21_000), (Rig::POD_B, 53));
    rig.from_pod_a(&Frame::tcp(here, there, "S"))
        .keeps("to a pod here", &ToPod(Frame::tcp(here, there, "S").one_hop_on()));
    rig.from_pod_b(&Frame::tcp(there, here, "SA")).keeps("its reply", &refused);

    asks(&rig, "to the Internet", 21_000);
    rig.from_wire(&Frame::tcp(INTERNET, node(21_000), "SA")).keeps("reply from the Internet", &refused);
    rig.from_wire(&Frame::tcp(INTERNET, node(21_000), "SA")).keeps("the same again", &refused);
    live_ones_go_on(&rig);
}

#[test]
fn flow_from_outside_is_refused_when_its_initiator_goes_on_after_the_reply() {
    let rig = full();
    let (initiator, server) = ((Rig::PEER, 45_000), a(8080));
    for (flags, from_outside) in [("S", true), ("SA", false)] {
        let (from, to) = if from_outside { (initiator, server) } else { (server, initiator) };
        let packet = Frame::tcp(from, to, flags);
        let on = packet.clone().one_hop_on();
        if from_outside {
            rig.from_wire(&packet).keeps(flags, &ToPod(on));
        } else {
            rig.from_pod_a(&packet).keeps(flags, &ToWire(on));
        }
    }
    rig.from_wire(&Frame::tcp(initiator, server, "A")).keeps("A", &Dropped(FlowTableFull));
    live_ones_go_on(&rig);
}

#[test]
fn flow_that_was_refused_is_promoted_once_there_is_room() {
    let rig = full();
    asks(&rig, "question", 21_000);
    let reply = Frame::tcp(INTERNET, node(21_000), "SA");
    rig.from_wire(&reply).keeps("no room", &Dropped(FlowTableFull));
    let [mut assured, ..] = rig.flows();
    let [mut held, _] = rig.translations();
    let key = assured.keys().next().unwrap().unwrap();
    assured.remove(&key).unwrap();
    let key = held.keys().next().unwrap().unwrap();
    held.remove(&key).unwrap();
    gets_reply(&rig, "room", 21_000);
    asks(&rig, "and on", 21_000);
}

#[test]
fn full_table_of_translations_refuses_what_needs_one() {
    let rig = Rig::with(Rig::constants(), MAX_FLOWS.into());
    let [mut translations, _] = rig.translations();
    for port in 0..MAX_FLOWS {
        let key = NatKey {
            remote: Ipv4::new(203, 0, 113, 1),
            node: Rig::NODE.into(),
            remote_port: Be16::from_host(port),
            node_port: Be16::from_host(20_000),
            protocol: 6,
        };
        translations.insert(key, NatHolder::new(Rig::POD_B.into(), Be16::from_host(port), 0), 0).unwrap();
    }
    asks(&rig, "to the Internet", 20_000);
    rig.from_wire(&Frame::tcp(INTERNET, node(20_000), "SA")).keeps("its reply", &Dropped(NatTableFull));
    rig.from_wire(&Frame::tcp(INTERNET, node(20_000), "SA")).keeps("the same again", &Dropped(NatTableFull));

    let to_vnet = Frame::tcp(a(20_000), PEER, "S");
    rig.from_pod_a(&to_vnet).keeps("to the VNet", &ToWire(to_vnet.clone().one_hop_on()));
    let reply = Frame::tcp(PEER, a(20_000), "SA");
    rig.from_wire(&reply).keeps("its reply", &ToPod(reply.clone().one_hop_on()));

    rig.to_wire(&Frame::udp(node(20_001), INTERNET)).keeps("the host's own", &Untouched);
    rig.from_wire(&Frame::udp(INTERNET, node(20_001))).keeps("its reply", &Untouched);
}

#[test]
fn host_reaches_its_pods_with_the_tables_full() {
    let rig = full();
    let (host, probe) = (node(45_000), a(8080));
    for flags in ["S", "A", "FA"] {
        rig.stack_to_pod_a(&Frame::tcp(host, probe, flags)).keeps("probe", &Untouched);
        rig.from_pod_a(&Frame::tcp(probe, host, "SA")).keeps("its reply", &Untouched);
    }
    let dns = Frame::udp(a(21_000), (Rig::NODE_LOCAL_DNS, 53));
    rig.from_pod_a(&dns).keeps("node-local DNS", &Untouched);
    rig.stack_to_pod_a(&Frame::udp((Rig::NODE_LOCAL_DNS, 53), a(21_000))).keeps("its reply", &Untouched);
}

#[test]
fn what_went_up_the_stack_with_the_tables_full_is_refused_at_its_reply_if_it_is_translated() {
    let rig = full();
    let internet = (Ipv4Addr::new(203, 0, 113, 5), 80);
    let question = Passes(Frame::tcp(node(21_000), internet, "S"));
    rig.to_wire(&Frame::tcp(a(21_000), internet, "S")).keeps("to the Internet", &question);
    rig.from_wire(&Frame::tcp(internet, node(21_000), "SA")).keeps("its reply", &Dropped(FlowTableFull));

    rig.to_wire(&Frame::tcp(a(21_000), (Rig::PEER, 80), "S")).keeps("to the VNet", &Untouched);
    rig.from_wire(&Frame::tcp((Rig::PEER, 80), a(21_000), "SA")).keeps("its reply", &Untouched);
}

#[test]
fn host_is_not_cut_off_by_full_tables() {
    let rig = full();
    let remote = (INTERNET.0, 80);
    for (flags, reply) in [("S", "SA"), ("A", "A")] {
        rig.to_wire(&Frame::tcp(node(20_000), remote, flags)).keeps("the host's own", &Untouched);
        rig.from_wire(&Frame::tcp(remote, node(20_000), reply)).keeps("its reply", &Untouched);
    }
}

/// They stay where a flood may turn them over, and lose nothing by that.
#[test]
fn datagrams_go_on_with_the_connection_table_full() {
    let rig = full();
    let (here, remote) = (a(22_000), (INTERNET.0, 8443));
    for round in 0..3 {
        let out = ToWire(Frame::udp(node(22_000), remote).one_hop_on());
        rig.from_pod_a(&Frame::udp(here, remote)).keeps(&format!("question {round}"), &out);
        let back = ToPod(Frame::udp(remote, here).one_hop_on());
        rig.from_wire(&Frame::udp(remote, node(22_000))).keeps(&format!("reply {round}"), &back);
        rig.age_datagrams();
    }
    live_ones_go_on(&rig);
}
