//! What happens on a node, one step after the other: few addresses and ports, so that flows meet.

use azure_cni_common::conntrack::{Event, TcpFlags};
use azure_cni_common::family::{Be16, TCP, UDP};
use azure_cni_common::flow::Tuple;
use azure_cni_common::next_hop::{Services, Translation};
use proptest::prelude::*;

use crate::node::{NODE, Net, PODS, REMOTES};

/// The ends of a packet, whoever sends it: the near one is on the node.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    pub near: u8,
    pub remote: u8,
    pub near_port: u16,
    pub remote_port: u16,
}

#[derive(Clone, Copy, Debug)]
pub enum Said {
    Tcp(u8),
    Udp,
    /// The one who sends it asks.
    Ping,
    Pong,
    /// A protocol without ports: ESP.
    Other,
}

#[derive(Clone, Copy, Debug)]
pub enum Half {
    Flow,
    Opening,
    Translation,
    OpeningTranslation,
}

#[derive(Clone, Copy, Debug)]
pub enum Step {
    FromPod(Ends, Said),
    FromHost(Ends, Said),
    FromWire(Ends, Said),
    /// To the translated packet that left so many translated packets ago.
    Answer(usize, Said),
    /// Of the pod whose packet was translated that many translated packets ago.
    GoOn(usize, Said),
    Pass(u64),
    Lose(Half, usize),
    /// What the agent does from time to time.
    Sweep,
}

impl Said {
    pub fn event(self) -> Event {
        match self {
            Said::Tcp(flags) => Event::Segment(TcpFlags(flags)),
            Said::Pong => Event::Answer,
            Said::Udp | Said::Ping | Said::Other => Event::Datagram,
        }
    }
}

impl Ends {
    pub fn from_near<F: Net>(self, said: Said) -> Tuple<F::Address> {
        let (protocol, ports) = match said {
            Said::Tcp(_) => (TCP, (self.near_port, self.remote_port)),
            Said::Udp => (UDP, (self.near_port, self.remote_port)),
            Said::Ping => (F::ICMP, (self.near_port, 0)),
            Said::Pong => (F::ICMP, (0, self.near_port)),
            Said::Other => (50, (0, 0)),
        };
        Tuple {
            source: F::address(self.near),
            destination: F::address(self.remote),
            source_port: Be16::from_host(ports.0),
            destination_port: Be16::from_host(ports.1),
            protocol,
        }
    }

    pub fn from_remote<F: Net>(self, said: Said) -> Tuple<F::Address> {
        let asked = match said {
            Said::Ping => Said::Pong,
            Said::Pong => Said::Ping,
            other => other,
        };
        self.from_near::<F>(asked).reversed()
    }
}

fn said() -> impl Strategy<Value = Said> {
    let flags =
        [TcpFlags::SYN, TcpFlags::SYN | TcpFlags::ACK, TcpFlags::ACK, TcpFlags::FIN | TcpFlags::ACK, TcpFlags::RST];
    prop_oneof![
        6 => prop::sample::select(flags.to_vec()).prop_map(Said::Tcp),
        3 => Just(Said::Udp),
        1 => Just(Said::Ping),
        1 => Just(Said::Pong),
        1 => Just(Said::Other),
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
    let from_pods = [&REMOTES[..], &PODS, &REMOTES[3..], &REMOTES[3..]].concat();
    let halves = vec![Half::Flow, Half::Opening, Half::Translation, Half::OpeningTranslation];
    let times = vec![100, 400, 1_000, 11_000, 61_000, 181_000, 86_401_000];
    prop_oneof![
        6 => (ends(PODS.to_vec(), from_pods), said()).prop_map(|(ends, said)| Step::FromPod(ends, said)),
        1 => (ends(vec![NODE], remotes.clone()), said()).prop_map(|(ends, said)| Step::FromHost(ends, said)),
        3 => (ends([&PODS[..], &[NODE]].concat(), remotes), said()).prop_map(|(ends, said)| Step::FromWire(ends, said)),
        5 => (0usize..4, said()).prop_map(|(back, said)| Step::Answer(back, said)),
        5 => (0usize..4, said()).prop_map(|(back, said)| Step::GoOn(back, said)),
        2 => prop::sample::select(times).prop_map(|ms| Step::Pass(ms * 1_000_000)),
        1 => (prop::sample::select(halves), any::<usize>()).prop_map(|(half, n)| Step::Lose(half, n)),
        1 => Just(Step::Sweep),
    ]
}

#[derive(Clone, Debug)]
pub struct Scene {
    pub services: Services,
    pub translation: Translation,
    pub steps: Vec<Step>,
}

pub fn scenes() -> impl Strategy<Value = Scene> {
    let services = prop::sample::select(vec![Services::Unknown, Services::Known]);
    (services, prop::bool::weighted(0.9), prop::bool::weighted(0.1), prop::collection::vec(steps(), 1..40)).prop_map(
        |(services, is_on, pod_keeps_source, steps)| Scene {
            services,
            translation: Translation { is_on, pod_keeps_source },
            steps,
        },
    )
}
