//! Load generators: client and server in this process, on a core each, in the namespaces of the two ends of a lane.
//!
//! The rule: an end never sleeps where the far end could be made to wait for its wake-up, and never asks the socket so
//! often that the asking shows: what is measured is the packets' way, not the idle states of cores. Beside a rate stands
//! what it cost in processor time, which other work on the machine changes much less.

mod batch;
mod bulk;
mod connections;
mod core;
mod packets;
mod round_trips;

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

pub(crate) use self::core::Cores;
use crate::{figure::Figure, testbed::Lane};

/// A kind of traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Load {
    Packets,
    Connections,
    RoundTrips,
    Bulk,
}

/// What one run of a load found.
pub(crate) struct Reading {
    pub(crate) values: Vec<(Figure, f64)>,
    /// The share of the time that an end was ready to run and had to leave its core to somebody else; of the end that
    /// waited longer.
    pub(crate) disturbed: Option<f64>,
}

impl Load {
    pub(crate) const ALL: [Self; 4] = [Self::Packets, Self::Connections, Self::RoundTrips, Self::Bulk];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Packets => "udp-packets",
            Self::Connections => "tcp-connect",
            Self::RoundTrips => "tcp-round-trip",
            Self::Bulk => "tcp-throughput",
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Packets => "UDP frames of 64 bytes, as many as arrive",
            Self::Connections => "TCP connections, each with one request",
            Self::RoundTrips => "TCP requests of one byte over an open connection",
            Self::Bulk => "TCP throughput by iperf3, one stream",
        }
    }

    /// Puts the load on a lane.
    pub(crate) fn run(self, lane: &Lane, cores: Cores, duration: Duration) -> Result<Reading> {
        match self {
            Self::Packets => packets::run(lane, cores, duration),
            Self::Connections => connections::run(lane, cores, duration),
            Self::RoundTrips => round_trips::run(lane, cores, duration),
            Self::Bulk => bulk::run(lane, duration),
        }
    }
}

/// The part of a load's duration that comes before what counts: caches, neighbour entries and windows settle.
fn warm_up(duration: Duration) -> Duration {
    duration / 5
}
