//! Load generators: client and server in this process, on a core each, in the namespaces of the two ends of a path.
//!
//! The rule: an end never sleeps where the far end could be made to wait for its wake-up, and never asks the socket so
//! often that the asking shows: what is measured is the packets' way, not the idle states of cores. Beside a rate stands
//! what it cost in processor time, which other work on the machine changes much less.

mod batch;
mod bulk;
mod connections;
pub(crate) mod echo;
pub(crate) mod first_packets;
pub(crate) mod flows;
mod machine_time;
mod packets;
pub(crate) mod reading;
mod round_trips;
pub(crate) mod udp;

use std::time::Duration;

use anyhow::Result;

use self::reading::{Reading, with_next_to_none_lost};
use crate::{cores::Cores, figure::Figure, path::Path, subject::LoadKind};

/// Puts a load on a path.
pub(crate) fn run(kind: LoadKind, path: &Path, cores: Cores, duration: Duration) -> Result<Reading> {
    use Figure::*;
    match kind {
        LoadKind::Packets => with_next_to_none_lost(|| packets::run(path, cores, duration)),
        LoadKind::Connections => connections::run(path, cores, duration),
        LoadKind::TcpRoundTrips => round_trips::over_tcp(path, cores, duration),
        LoadKind::UdpRoundTrips => round_trips::over_udp(path, cores, duration),
        LoadKind::OneStream => bulk::run(path, duration, 1, [Throughput, ThroughputCost]),
        LoadKind::EightStreams => bulk::run(path, duration, 8, [ManyThroughput, ManyThroughputCost]),
    }
}
