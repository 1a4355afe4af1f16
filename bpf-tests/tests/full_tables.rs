//! Full tables: new flows are refused and counted, live ones go on, and the host still reaches its pods.

use std::net::Ipv4Addr;

use azure_cni_common::drop_reason::DropReason::{FlowTableFull, NatTableFull};
use azure_cni_common::family::{Be16, Ipv4};
use azure_cni_common::layout::{NatHolder, NatKey};
use bpf_tests::Promise::{Dropped, ToPod, ToWire, Untouched};
use bpf_tests::{Frame, Rig, Verdict};

const MAX_FLOWS: u32 = 4;
const INTERNET: (Ipv4Addr, u16) = (Rig::INTERNET, 443);

fn a(port: u16) -> (Ipv4Addr, u16) {
    (Rig::POD_A, port)
}

/// With flows from ports 20000 on, to the Internet.
fn full() -> Rig {
    let rig = Rig::with(Rig::constants(), MAX_FLOWS);
    for port in 20_000..20_000 + MAX_FLOWS as u16 {
        assert_eq!(rig.from_pod_a(&Frame::udp(a(port), INTERNET)).verdict, Verdict::ToWire);
    }
    rig
}

#[test]
fn full_connection_table_refuses_new_flows_and_keeps_the_live_ones() {
    let rig = full();
    let refused = Dropped(FlowTableFull);
    rig.from_pod_a(&Frame::udp(a(21_000), (Rig::PEER, 53))).keeps("to the VNet", &refused);
    rig.from_pod_a(&Frame::udp(a(21_000), (Rig::POD_B, 53))).keeps("to a pod here", &refused);
    rig.from_wire(&Frame::udp((Rig::PEER, 53), a(21_000))).keeps("from the wire", &refused);
    for port in 20_000..20_000 + MAX_FLOWS as u16 {
        let out = ToWire(Frame::udp((Rig::NODE, port), INTERNET).one_hop_on());
        rig.from_pod_a(&Frame::udp(a(port), INTERNET)).keeps("a live one", &out);
        let back = ToPod(Frame::udp(INTERNET, a(port)).one_hop_on());
        rig.from_wire(&Frame::udp(INTERNET, (Rig::NODE, port))).keeps("its answer", &back);
    }
}

#[test]
fn flow_that_is_refused_leaves_no_port_behind() {
    let rig = full();
    // One port of four is given back, so that a translation has room and its flow has not.
    let [mut established, _] = rig.translations();
    let key = established.keys().next().unwrap().unwrap();
    established.remove(&key).unwrap();
    rig.from_pod_a(&Frame::udp(a(21_000), INTERNET)).keeps("to the Internet", &Dropped(FlowTableFull));
    assert_eq!(rig.translation_count(), MAX_FLOWS as usize - 1);
}

#[test]
fn full_table_of_translations_refuses_what_needs_one() {
    let rig = Rig::with(Rig::constants(), MAX_FLOWS);
    let [mut translations, _] = rig.translations();
    for port in 0..MAX_FLOWS as u16 {
        let key = NatKey {
            remote: Ipv4::new(203, 0, 113, 1),
            node: Rig::NODE.into(),
            remote_port: Be16::from_host(port),
            node_port: Be16::from_host(20_000),
            protocol: 17,
            pad: [0; 3],
        };
        translations.insert(key, NatHolder::new(Rig::POD_B.into(), Be16::from_host(port), 0), 0).unwrap();
    }
    rig.from_pod_a(&Frame::udp(a(20_000), INTERNET)).keeps("to the Internet", &Dropped(NatTableFull));
    assert_eq!(rig.flow_count(), 0);
    let packet = Frame::udp(a(20_000), (Rig::PEER, 53));
    rig.from_pod_a(&packet).keeps("to the VNet", &ToWire(packet.clone().one_hop_on()));
    rig.to_wire(&Frame::udp((Rig::NODE, 20_000), INTERNET)).keeps("the host's own", &Untouched);
}

#[test]
fn host_reaches_its_pods_with_the_tables_full() {
    let rig = full();
    let (host, probe) = ((Rig::NODE, 45_000), a(8080));
    rig.stack_to_pod_a(&Frame::tcp(host, probe, "S")).keeps("probe", &Untouched);
    rig.from_pod_a(&Frame::tcp(probe, host, "SA")).keeps("its answer", &Untouched);
    let dns = Frame::udp(a(21_000), (Rig::NODE_LOCAL_DNS, 53));
    rig.from_pod_a(&dns).keeps("node-local DNS", &Untouched);
    rig.stack_to_pod_a(&Frame::udp((Rig::NODE_LOCAL_DNS, 53), a(21_000))).keeps("its answer", &Untouched);
}

#[test]
fn what_went_up_the_stack_with_the_tables_full_is_refused_at_the_wire() {
    let rig = full();
    let service = (Ipv4Addr::new(10, 0, 0, 10), 80);
    rig.to_wire(&Frame::tcp(a(21_000), service, "S")).keeps("to the Internet", &Dropped(NatTableFull));
    rig.to_wire(&Frame::tcp(a(21_000), (Rig::PEER, 80), "S")).keeps("to the VNet", &Dropped(FlowTableFull));
}

#[test]
fn host_is_not_cut_off_by_full_tables() {
    let rig = full();
    rig.to_wire(&Frame::tcp((Rig::NODE, 20_000), (INTERNET.0, 80), "S")).keeps("the host's own", &Untouched);
}
