//! Ports that sockets of the host hold towards everybody are no pod's, whether it would have kept or been given them.

use std::net::Ipv4Addr;

use azure_cni_common::drop_reason::DropReason::NatPortsExhausted;
use azure_cni_datapath::HostPorts;
use bpf_tests::Promise::{Dropped, ToWire};
use bpf_tests::{Frame, Rig, Verdict};

const INTERNET: (Ipv4Addr, u16) = (Rig::INTERNET, 443);
const TCP: u8 = 6;
const UDP: u8 = 17;

fn held(rig: &Rig, ports: &[(u8, u16)]) {
    let mut held = HostPorts::default();
    for (protocol, port) in ports {
        held.insert(*protocol, *port);
    }
    rig.tables().set_host_ports(&held).unwrap();
}

#[test]
fn port_of_the_host_is_not_kept_by_a_pod() {
    let rig = Rig::new();
    held(&rig, &[(UDP, 20_000), (TCP, 20_001)]);
    let given = rig.from_pod_a(&Frame::udp((Rig::POD_A, 20_000), INTERNET)).frame.source();
    assert_ne!(given, (Rig::NODE, 20_000));
    let given = rig.from_pod_a(&Frame::tcp((Rig::POD_A, 20_001), INTERNET, "S")).frame.source();
    assert_ne!(given, (Rig::NODE, 20_001));

    // One bit is one port of one protocol.
    let kept = |frame: fn((Ipv4Addr, u16)) -> Frame, port| {
        let out = ToWire(frame((Rig::NODE, port)).one_hop_on());
        rig.from_pod_a(&frame((Rig::POD_A, port))).keeps(&format!("{port}"), &out);
    };
    kept(|from| Frame::tcp(from, INTERNET, "S"), 20_000);
    for port in [19_999, 20_001, 20_064] {
        kept(|from| Frame::udp(from, INTERNET), port);
    }
    kept(|from| Frame::echo_request(from.0, INTERNET.0, from.1), 20_000);
}

#[test]
fn port_of_the_host_is_not_found_by_the_search() {
    let rig = Rig::with_nat_ports(20_000, 20_003);
    held(&rig, &[(UDP, 20_000), (UDP, 20_002)]);
    let mut given: Vec<u16> = [40_000, 40_001]
        .map(|port| {
            let outcome = rig.from_pod_a(&Frame::udp((Rig::POD_A, port), INTERNET));
            assert_eq!(outcome.verdict, Verdict::ToWire);
            outcome.frame.source().1
        })
        .into();
    given.sort_unstable();
    assert_eq!(given, [20_001, 20_003]);
    let third = Frame::udp((Rig::POD_A, 40_002), INTERNET);
    rig.from_pod_a(&third).keeps("a third flow", &Dropped(NatPortsExhausted));
}

#[test]
fn port_of_the_host_is_not_taken_over_from_a_dead_flow() {
    let rig = Rig::with_nat_ports(20_000, 20_000);
    let question = |port| Frame::udp((Rig::POD_A, port), INTERNET);
    let translated = ToWire(Frame::udp((Rig::NODE, 20_000), INTERNET).one_hop_on());
    rig.from_pod_a(&question(40_000)).keeps("a pod's", &translated);
    rig.expire_flows();
    held(&rig, &[(UDP, 20_000)]);
    rig.from_pod_a(&question(40_001)).keeps("the host's", &Dropped(NatPortsExhausted));
    held(&rig, &[]);
    rig.from_pod_a(&question(40_001)).keeps("given back", &translated);
}

#[test]
fn flow_that_had_the_port_before_the_host_keeps_it() {
    let rig = Rig::new();
    let question = Frame::udp((Rig::POD_A, 20_000), INTERNET);
    let translated = ToWire(Frame::udp((Rig::NODE, 20_000), INTERNET).one_hop_on());
    rig.from_pod_a(&question).keeps("before", &translated);
    held(&rig, &[(UDP, 20_000)]);
    rig.from_pod_a(&question).keeps("after", &translated);
}
