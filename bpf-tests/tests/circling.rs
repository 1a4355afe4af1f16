//! A fragment that is put back into its queue does not circle, whatever else is attached where it comes by. The packets of these
//! tests go through the kernel: a bound that fails keeps a CPU busy until the interfaces go.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use azure_cni_common::fragments::FragmentPorts;
use azure_cni_datapath::{Datapath, Hook};
use bpf_tests::{Frame, Rig};

type End = (IpAddr, u16);

const FAMILIES: [[End; 3]; 2] = [
    [(IpAddr::V4(Rig::POD_A), 20_000), (IpAddr::V4(Rig::NODE), 20_000), (IpAddr::V4(Rig::INTERNET), 443)],
    [(IpAddr::V6(Rig::POD_A6), 20_000), (IpAddr::V6(Rig::NODE6), 20_000), (IpAddr::V6(Rig::INTERNET6), 443)],
];

fn later(from: End, to: End) -> Frame {
    let [_, later] = Frame::udp_with_payload(from, to, &[7; 1200]).in_two(800, 0x1234);
    later
}

/// Far longer than a thousand rounds take.
const PATIENCE: Duration = Duration::from_secs(20);

fn await_that(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{what}: it circles still");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn dropped(datapath: &Datapath) -> u64 {
    datapath.tables().drops().unwrap().iter().flat_map(|counter| counter.per_cpu.clone()).sum()
}

/// Every look ends in one more round, until the last one: the rounds are in the fragments' table.
fn assert_rounds(rig: &Rig, what: &str) {
    let waits = rig.waits();
    assert!(!waits.is_empty(), "{what}: nothing was put back");
    for waits in waits {
        assert!(waits == FragmentPorts::MOST_WAITS, "{what}: {waits} rounds");
    }
}

#[test]
fn fragment_from_the_wire_ends_with_a_program_that_clears_marks() {
    let mut rig = Rig::new();
    rig.power_up();
    rig.datapath().attach(Hook::FromWire, "uplink").unwrap();
    rig.clear_marks_at("uplink");
    for [_, node, internet] in FAMILIES {
        let before = rig.fragments_taken_in();
        rig.send_from_fabric(&later(internet, node));
        await_that("marks cleared", || rig.fragments_taken_in() > before);
        assert_eq!(rig.fragments_taken_in(), before + 1, "one packet came of one");
    }
    assert_rounds(&rig, "marks cleared");
}

#[test]
fn fragment_of_a_pod_ends_with_a_program_that_clears_marks() {
    let mut rig = Rig::new();
    rig.power_up();
    rig.datapath().attach(Hook::FromEndpoint, "azva").unwrap();
    rig.clear_marks_at("azva");
    for [pod, _, internet] in FAMILIES {
        let before = dropped(rig.datapath());
        rig.send_from_pod_a(&later(pod, internet));
        await_that("marks cleared", || dropped(rig.datapath()) > before);
    }
    assert_rounds(&rig, "marks cleared");
}
