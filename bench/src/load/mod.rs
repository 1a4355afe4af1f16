//! Load generators: client and server in this process, on a core each, in the namespaces of the two ends of a path.
//!
//! The rule: an end never sleeps where the far end could be made to wait for its wake-up, and never asks the socket so
//! often that the asking shows: what is measured is the packets' way, not the idle states of cores. Beside a rate stands
//! what it cost in processor time, which other work on the machine changes much less.

mod batch;
mod bulk;
mod connections;
mod core;
pub(crate) mod echo;
pub(crate) mod first_packets;
pub(crate) mod flows;
mod machine_time;
mod packets;
mod round_trips;
pub(crate) mod udp;

use std::time::Duration;

use anyhow::{Result, bail};

pub(crate) use self::core::{Cores, pin};
use crate::{figure::Figure, testbed::Path};

/// A kind of traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Load {
    Packets,
    Connections,
    TcpRoundTrips,
    UdpRoundTrips,
    OneStream,
    EightStreams,
}

/// What one run of a load found.
pub(crate) struct Reading {
    pub(crate) values: Vec<(Figure, f64)>,
    /// The share of the time that an end was ready to run and had to leave its core to somebody else; of the end that
    /// waited longer.
    pub(crate) disturbed: Option<f64>,
    /// Of a latency: at [`crate::statistics::QUANTILES`].
    pub(crate) quantiles: Option<Vec<f64>>,
}

impl Reading {
    fn of(values: Vec<(Figure, f64)>) -> Self {
        Self { values, disturbed: None, quantiles: None }
    }
}

/// A packet rate with more lost on the way is none (RFC 2544 section 26.1 asks for no loss at all, which a shared machine
/// cannot promise).
const MAX_LOSS: f64 = 0.005;
/// So often such a run is repeated.
const TRIES: u8 = 3;

impl Load {
    pub(crate) const ALL: [Self; 6] = [
        Self::Packets,
        Self::Connections,
        Self::TcpRoundTrips,
        Self::UdpRoundTrips,
        Self::OneStream,
        Self::EightStreams,
    ];
    /// Those that a change of the data path is judged by.
    pub(crate) const QUICK: [Self; 3] = [Self::Packets, Self::Connections, Self::OneStream];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Packets => "udp-packets",
            Self::Connections => "tcp-connect",
            Self::TcpRoundTrips => "tcp-round-trip",
            Self::UdpRoundTrips => "udp-round-trip",
            Self::OneStream => "tcp-throughput-1",
            Self::EightStreams => "tcp-throughput-8",
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Packets => "UDP frames of 64 bytes, as many as arrive",
            Self::Connections => "TCP connections, each with one request",
            Self::TcpRoundTrips => "TCP requests of one byte over an open connection",
            Self::UdpRoundTrips => "UDP requests of one byte",
            Self::OneStream => "TCP throughput by iperf3, one stream",
            Self::EightStreams => "TCP throughput by iperf3, eight streams",
        }
    }

    /// Puts the load on a path.
    pub(crate) fn run(self, path: &Path, cores: Cores, duration: Duration) -> Result<Reading> {
        use Figure::*;
        match self {
            Self::Packets => with_next_to_none_lost(|| packets::run(path, cores, duration)),
            Self::Connections => connections::run(path, cores, duration),
            Self::TcpRoundTrips => round_trips::over_tcp(path, cores, duration),
            Self::UdpRoundTrips => round_trips::over_udp(path, cores, duration),
            Self::OneStream => bulk::run(path, duration, 1, [Throughput, ThroughputCost]),
            Self::EightStreams => bulk::run(path, duration, 8, [ManyThroughput, ManyThroughputCost]),
        }
    }
}

/// Repeats a run that lost more than a rate may.
pub(crate) fn with_next_to_none_lost(run: impl Fn() -> Result<Reading>) -> Result<Reading> {
    let mut lost = 0.0;
    for _ in 0..TRIES {
        let reading = run()?;
        lost = reading.values.iter().find(|(figure, _)| *figure == Figure::PacketLoss).map_or(0.0, |(_, lost)| *lost);
        if lost <= MAX_LOSS {
            return Ok(reading);
        }
    }
    bail!("{:.1} % of the datagrams were lost, {TRIES} times in a row", lost * 100.0)
}

/// The part of a load's duration that comes before what counts: caches, neighbour entries and windows settle.
fn warm_up(duration: Duration) -> Duration {
    duration / 5
}
