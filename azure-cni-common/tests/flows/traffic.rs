//! What happens on a node, one step after the other: few addresses and ports, so that flows meet.

use azure_cni_common::conntrack::Event;
use azure_cni_common::egress::{ServicePrefixes, SnatPolicy};
use azure_cni_common::family::{Be16, TCP, UDP};
use azure_cni_common::flow::Tuple;
use azure_cni_common::tcp::{Segment, TcpFlags};
use proptest::prelude::*;

use crate::node::{NODE, Net, PODS, REMOTES};

/// The ends of a packet, in either direction: the near one is on the node.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    pub near: u8,
    pub remote: u8,
    pub near_port: u16,
    pub remote_port: u16,
}

#[derive(Clone, Copy, Debug)]
pub enum PacketKind {
    Tcp(u8),
    /// The same with numbers that are not those of the flow.
    Forged(u8),
    Udp,
    /// The one who sends it asks.
    Ping,
    Pong,
    /// A protocol without ports: ESP.
    Other,
}

/// The table that loses one of its entries.
#[derive(Clone, Copy, Debug)]
pub enum Lost {
    Flow,
    HalfOpen,
    Datagram,
    Translation,
    HalfOpenTranslation,
}

#[derive(Clone, Copy, Debug)]
pub enum Step {
    FromPod(Ends, PacketKind),
    FromHost(Ends, PacketKind),
    FromWire(Ends, PacketKind),
    /// To the translated packet that left so many translated packets ago.
    Answer(usize, PacketKind),
    /// Of the pod whose packet was translated that many translated packets ago.
    GoOn(usize, PacketKind),
    Pass(u64),
    Lose(Lost, usize),
    /// What the agent does from time to time.
    Sweep,
}

impl PacketKind {
    pub fn event(self) -> Event<'static> {
        static BARE: [Segment; 256] = of_all_flags(0, 0);
        static FORGED: [Segment; 256] = of_all_flags(1 << 30, 3 << 30);
        match self {
            PacketKind::Tcp(flags) => Event::segment(&BARE[usize::from(flags)]),
            PacketKind::Forged(flags) => Event::segment(&FORGED[usize::from(flags)]),
            PacketKind::Pong => Event::REPLY,
            PacketKind::Udp | PacketKind::Ping | PacketKind::Other => Event::DATAGRAM,
        }
    }
}

const fn of_all_flags(sequence: u32, acknowledgement: u32) -> [Segment; 256] {
    let mut segments = [Segment { sequence, acknowledgement, ..Segment::bare(0) }; 256];
    let mut flags = 0;
    while flags < segments.len() {
        segments[flags].flags = TcpFlags(flags as u8);
        flags += 1;
    }
    segments
}

impl Ends {
    pub fn from_near<F: Net>(self, kind: PacketKind) -> Tuple<F::Address> {
        let (protocol, ports) = match kind {
            PacketKind::Tcp(_) | PacketKind::Forged(_) => (TCP, (self.near_port, self.remote_port)),
            PacketKind::Udp => (UDP, (self.near_port, self.remote_port)),
            PacketKind::Ping => (F::ICMP, (self.near_port, 0)),
            PacketKind::Pong => (F::ICMP, (0, self.near_port)),
            PacketKind::Other => (50, (0, 0)),
        };
        Tuple {
            source: F::address(self.near),
            destination: F::address(self.remote),
            source_port: Be16::from_host(ports.0),
            destination_port: Be16::from_host(ports.1),
            protocol,
        }
    }

    pub fn from_remote<F: Net>(self, kind: PacketKind) -> Tuple<F::Address> {
        let asked = match kind {
            PacketKind::Ping => PacketKind::Pong,
            PacketKind::Pong => PacketKind::Ping,
            other => other,
        };
        self.from_near::<F>(asked).reversed()
    }
}

const FLAGS: [u8; 5] =
    [TcpFlags::SYN, TcpFlags::SYN | TcpFlags::ACK, TcpFlags::ACK, TcpFlags::FIN | TcpFlags::ACK, TcpFlags::RST];

fn forged() -> impl Strategy<Value = PacketKind> {
    prop::sample::select(FLAGS.to_vec()).prop_map(PacketKind::Forged)
}

fn kind() -> impl Strategy<Value = PacketKind> {
    prop_oneof![
        6 => prop::sample::select(FLAGS.to_vec()).prop_map(PacketKind::Tcp),
        3 => Just(PacketKind::Udp),
        1 => Just(PacketKind::Ping),
        1 => Just(PacketKind::Pong),
        1 => Just(PacketKind::Other),
    ]
}

fn ends(near: Vec<u8>, remotes: Vec<u8>) -> impl Strategy<Value = Ends> {
    let near_ports = prop::sample::select(vec![1024u16, 1025, 40_000]);
    let remote_ports = prop::sample::select(vec![443u16, 1024]);
    (prop::sample::select(near), prop::sample::select(remotes), near_ports, remote_ports)
        .prop_map(|(near, remote, near_port, remote_port)| Ends { near, remote, near_port, remote_port })
}

fn steps() -> impl Strategy<Value = Step> {
    let remotes = REMOTES.to_vec();
    // The Internet more often than all others.
    let from_pods = [&REMOTES[..], &PODS, &REMOTES[5..], &REMOTES[5..]].concat();
    let lost = vec![Lost::Flow, Lost::HalfOpen, Lost::Datagram, Lost::Translation, Lost::HalfOpenTranslation];
    let times = vec![100, 400, 1_000, 2_500, 6_000, 11_000, 31_000, 61_000, 181_000, 86_401_000];
    prop_oneof![
        6 => (ends(PODS.to_vec(), from_pods), kind()).prop_map(|(ends, kind)| Step::FromPod(ends, kind)),
        1 => (ends(vec![NODE], remotes.clone()), kind()).prop_map(|(ends, kind)| Step::FromHost(ends, kind)),
        3 => (ends([&PODS[..], &[NODE]].concat(), remotes), kind()).prop_map(|(ends, kind)| Step::FromWire(ends, kind)),
        5 => (0usize..4, kind()).prop_map(|(back, kind)| Step::Answer(back, kind)),
        2 => (0usize..4, forged()).prop_map(|(back, kind)| Step::Answer(back, kind)),
        2 => (ends(PODS.to_vec(), REMOTES.to_vec()), forged()).prop_map(|(ends, kind)| Step::FromWire(ends, kind)),
        5 => (0usize..4, kind()).prop_map(|(back, kind)| Step::GoOn(back, kind)),
        2 => prop::sample::select(times).prop_map(|ms| Step::Pass(ms * 1_000_000)),
        1 => (prop::sample::select(lost), any::<usize>()).prop_map(|(table, n)| Step::Lose(table, n)),
        1 => Just(Step::Sweep),
    ]
}

#[derive(Clone, Debug)]
pub struct Scene {
    pub services: ServicePrefixes,
    pub snat: SnatPolicy,
    pub steps: Vec<Step>,
}

pub fn scenes() -> impl Strategy<Value = Scene> {
    let services = prop::sample::select(vec![ServicePrefixes::Unknown, ServicePrefixes::Known]);
    (services, prop::bool::weighted(0.9), prop::bool::weighted(0.1), prop::collection::vec(steps(), 1..40)).prop_map(
        |(services, is_on, pod_keeps_source, steps)| Scene {
            services,
            snat: SnatPolicy { is_on, pod_keeps_source },
            steps,
        },
    )
}
