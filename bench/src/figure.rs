//! What a load yields: a name, a unit, and which way is better.

use serde::Serialize;

use crate::load::Load;

/// A measured quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Figure {
    PacketRate,
    PacketCost,
    PacketLoss,
    ConnectionRate,
    ConnectionCost,
    LatencyMedian,
    LatencyTail,
    Throughput,
}

/// Which way a figure is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Better {
    Higher,
    Lower,
}

impl Figure {
    /// The load that yields it.
    pub(crate) fn load(self) -> Load {
        match self {
            Self::PacketRate | Self::PacketCost | Self::PacketLoss => Load::Packets,
            Self::ConnectionRate | Self::ConnectionCost => Load::Connections,
            Self::LatencyMedian | Self::LatencyTail => Load::RoundTrips,
            Self::Throughput => Load::Bulk,
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::PacketRate => "UDP, 64-byte frames",
            Self::PacketCost => "  sender's core, per packet",
            Self::PacketLoss => "  lost",
            Self::ConnectionRate => "TCP connect, request, close",
            Self::ConnectionCost => "  both cores, per connection",
            Self::LatencyMedian => "TCP round trip, p50",
            Self::LatencyTail => "TCP round trip, p99",
            Self::Throughput => "TCP throughput, 1 stream",
        }
    }

    /// The unit of samples.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::PacketRate => "packets/s",
            Self::PacketLoss => "share",
            Self::ConnectionRate => "connections/s",
            Self::PacketCost | Self::ConnectionCost | Self::LatencyMedian | Self::LatencyTail => "ns",
            Self::Throughput => "bits/s",
        }
    }

    pub(crate) fn better(self) -> Better {
        match self {
            Self::PacketRate | Self::ConnectionRate | Self::Throughput => Better::Higher,
            Self::PacketCost | Self::PacketLoss | Self::ConnectionCost | Self::LatencyMedian | Self::LatencyTail => {
                Better::Lower
            }
        }
    }

    /// Whether a ratio of two samples says anything: losses are around zero.
    pub(crate) fn is_compared(self) -> bool {
        self != Self::PacketLoss
    }

    /// Whether it is processor time, so that a part of it can be told by subtraction.
    pub(crate) fn is_cost(self) -> bool {
        matches!(self, Self::PacketCost | Self::ConnectionCost)
    }

    /// A sample for people.
    pub(crate) fn show(self, value: f64) -> String {
        match self {
            Self::PacketRate => format!("{:.0} k/s", value / 1e3),
            Self::ConnectionRate => format!("{:.2} k/s", value / 1e3),
            Self::PacketLoss => format!("{:.3} %", value * 100.0),
            Self::PacketCost => format!("{value:.0} ns"),
            Self::ConnectionCost | Self::LatencyMedian | Self::LatencyTail => format!("{:.2} us", value / 1e3),
            Self::Throughput => format!("{:.2} Gbit/s", value / 1e9),
        }
    }
}
