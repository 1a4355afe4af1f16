//! Packets that the programs are timed with, and the flows that they belong to.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Result, ensure};
use azure_cni_datapath::Hook;
use bpf_tests::{Frame, Rig, Verdict};

/// The most a hop limit has room for, with the last hop still forwarded.
const HOP_LIMIT: u8 = 255;
/// No program of ours reads further than this (IEEE 802: for local experiments).
const EXPERIMENTAL_ETHERTYPE: u16 = 0x88b5;

/// A program, and the packets it gets.
pub(super) struct Case {
    hook: Hook,
    interface: &'static str,
    what: &'static str,
    pub(super) packets: Packets,
    verdict: Verdict,
}

/// Which packets may be timed together.
pub(super) enum Packets {
    /// The same again and again: each run takes one hop from it.
    Repeated(Frame),
    /// One for each run, by its number: the program makes another packet of it, or it is the first of its flow.
    Single(Box<dyn Fn(u16) -> Frame>),
}

impl Case {
    /// For people and for filters.
    pub(super) fn name(&self) -> String {
        format!("{}: {}", self.hook.program(), self.what)
    }

    /// Runs the program on the packet of this number, and returns what a run took.
    pub(super) fn run(&self, rig: &Rig, number: u16, repeat: u32) -> Result<Duration> {
        let frame = match &self.packets {
            Packets::Repeated(frame) => frame,
            Packets::Single(frame) => &frame(number),
        };
        let (seen, took) = rig.cost(self.hook, self.interface, frame, repeat);
        ensure!(seen == self.verdict, "{}: {seen:?} instead of {:?}", self.name(), self.verdict);
        Ok(took)
    }

    fn repeated(hook: Hook, what: &'static str, frame: Frame, verdict: Verdict) -> Self {
        Self { hook, interface: interface(hook), what, packets: Packets::Repeated(frame), verdict }
    }

    fn single(hook: Hook, what: &'static str, frame: impl Fn(u16) -> Frame + 'static, verdict: Verdict) -> Self {
        Self { hook, interface: interface(hook), what, packets: Packets::Single(Box::new(frame)), verdict }
    }
}

fn interface(hook: Hook) -> &'static str {
    match hook {
        Hook::FromEndpoint | Hook::ToEndpoint => "azva",
        Hook::FromWire | Hook::ToWire => "uplink",
    }
}

/// The shortest way through any program, as a packet that can be repeated and as one that is not.
pub(super) fn shortest() -> [Case; 2] {
    let frame = || Frame::udp((Rig::NODE, 1), (Rig::PEER, 1)).with_ethertype(EXPERIMENTAL_ETHERTYPE);
    [
        Case::repeated(Hook::ToWire, "not IP, repeated", frame(), Verdict::Pass),
        Case::single(Hook::ToWire, "not IP, once", move |_| frame(), Verdict::Pass),
    ]
}

/// Makes the flows, and the packets that meet them.
pub(super) fn all(rig: &Rig) -> Vec<Case> {
    let mut cases = untranslated(rig);
    cases.extend(translated(rig));
    cases.extend(new_flows());
    cases
}

fn client(address: Ipv4Addr) -> (Ipv4Addr, u16) {
    (address, 40_000)
}

fn server(address: Ipv4Addr) -> (Ipv4Addr, u16) {
    (address, 80)
}

fn segment(source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16), flags: &str) -> Frame {
    Frame::tcp(source, destination, flags).with_hop_limit(HOP_LIMIT)
}

fn untranslated(rig: &Rig) -> Vec<Case> {
    let (a, b, peer, node) = (client(Rig::POD_A), server(Rig::POD_B), server(Rig::PEER), client(Rig::NODE));
    let _ = (
        rig.from_pod_a(&segment(a, b, "S")),
        rig.from_pod_b(&segment(b, a, "SA")),
        rig.from_pod_a(&segment(a, b, "A")),
    );
    let _ = (rig.from_pod_a(&segment(a, peer, "S")), rig.from_wire(&segment(peer, a, "SA")));
    let _ = (
        rig.stack_to_pod_a(&segment(node, server(Rig::POD_A), "S")),
        rig.from_pod_a(&segment(server(Rig::POD_A), node, "SA")),
        rig.stack_to_pod_a(&segment(node, server(Rig::POD_A), "A")),
    );
    let telling = Frame::udp(a, peer).with_hop_limit(HOP_LIMIT);
    let _ = rig.from_pod_a(&telling);
    let to_peer = segment(a, peer, "A");
    vec![
        Case::repeated(Hook::FromEndpoint, "to a pod of this VM", segment(a, b, "A"), Verdict::ToPod),
        Case::repeated(Hook::FromEndpoint, "to another VM", to_peer.clone(), Verdict::ToWire),
        Case::single(Hook::FromEndpoint, "to another VM", move |_| to_peer.clone(), Verdict::ToWire),
        Case::repeated(Hook::FromEndpoint, "to another VM, UDP without replies", telling, Verdict::ToWire),
        Case::repeated(Hook::FromEndpoint, "dropped: a source not its own", segment(b, peer, "A"), Verdict::Drop),
        Case::repeated(Hook::FromWire, "to a pod", segment(peer, a, "A"), Verdict::ToPod),
        Case::repeated(Hook::FromWire, "to the node itself", segment(peer, node, "A"), Verdict::Pass),
        Case::repeated(
            Hook::ToEndpoint,
            "from the host's stack",
            segment(node, server(Rig::POD_A), "A"),
            Verdict::Pass,
        ),
        Case::repeated(Hook::ToWire, "from the node itself", segment(node, peer, "A"), Verdict::Pass),
    ]
}

fn translated(rig: &Rig) -> Vec<Case> {
    let (a, internet) = (client(Rig::POD_A), server(Rig::INTERNET));
    let on_the_wire = rig.from_pod_a(&segment(a, internet, "S")).frame.source();
    let _ = rig.from_wire(&segment(internet, on_the_wire, "SA"));
    let (out, back) = (segment(a, internet, "A"), segment(internet, on_the_wire, "A"));

    // What the stack has made of a packet to a service: the pod never named this address.
    let behind_service = (Rig::INTERNET, 8080);
    let on_the_wire = rig.to_wire(&segment(a, behind_service, "S")).frame.source();
    let _ = rig.from_wire(&segment(behind_service, on_the_wire, "SA"));
    let through_stack = segment(a, behind_service, "A");
    vec![
        Case::single(Hook::FromEndpoint, "to the Internet, translated", move |_| out.clone(), Verdict::ToWire),
        Case::single(Hook::FromWire, "from the Internet, reversed", move |_| back.clone(), Verdict::ToPod),
        Case::single(Hook::ToWire, "from the stack, translated", move |_| through_stack.clone(), Verdict::Pass),
    ]
}

/// Each packet from a port of its own: those that clients use by default, none of which the NAT may keep.
fn new_flows() -> Vec<Case> {
    let first = |destination| move |number| segment((Rig::POD_A, 33_000 + number % 32_000), destination, "S");
    vec![
        Case::single(Hook::FromEndpoint, "new flow, to another VM", first(server(Rig::PEER)), Verdict::ToWire),
        Case::single(
            Hook::FromEndpoint,
            "new flow, to the Internet, translated",
            first(server(Rig::INTERNET)),
            Verdict::ToWire,
        ),
    ]
}
