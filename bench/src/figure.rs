//! What loads yield: a name, a title and a unit each.

use crate::unit::Unit;

/// A quantity that a load measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Figure {
    PacketRate,
    PacketCost,
    PacketLoss,
    ConnectionRate,
    ConnectionCost,
    ConnectionMachineCost,
    TcpMedian,
    TcpTail,
    TcpFarTail,
    UdpMedian,
    UdpTail,
    UdpFarTail,
    Throughput,
    ThroughputCost,
    ManyThroughput,
    ManyThroughputCost,
    FirstPacketMedian,
}

impl Figure {
    /// Of its record, behind the topic.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::PacketRate => "packet-rate",
            Self::PacketCost => "packet-cost",
            Self::PacketLoss => "packet-loss",
            Self::ConnectionRate => "connection-rate",
            Self::ConnectionCost => "connection-cost",
            Self::ConnectionMachineCost => "connection-machine-cost",
            Self::TcpMedian => "tcp-round-trip-p50",
            Self::TcpTail => "tcp-round-trip-p99",
            Self::TcpFarTail => "tcp-round-trip-p999",
            Self::UdpMedian => "udp-round-trip-p50",
            Self::UdpTail => "udp-round-trip-p99",
            Self::UdpFarTail => "udp-round-trip-p999",
            Self::Throughput => "throughput-1",
            Self::ThroughputCost => "throughput-1-cost",
            Self::ManyThroughput => "throughput-8",
            Self::ManyThroughputCost => "throughput-8-cost",
            Self::FirstPacketMedian => "first-packet-p50",
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::PacketRate => "UDP, 64-byte frames",
            Self::PacketCost => "  sender's core, per packet",
            Self::PacketLoss => "  lost",
            Self::ConnectionRate => "TCP connect, request, close",
            Self::ConnectionCost => "  both ends' threads, per connection",
            Self::ConnectionMachineCost => "  whole machine, per request",
            Self::TcpMedian => "TCP round trip, p50",
            Self::TcpTail => "TCP round trip, p99",
            Self::TcpFarTail => "TCP round trip, p99.9",
            Self::UdpMedian => "UDP round trip, p50",
            Self::UdpTail => "UDP round trip, p99",
            Self::UdpFarTail => "UDP round trip, p99.9",
            Self::Throughput => "TCP throughput, 1 stream",
            Self::ManyThroughput => "TCP throughput, 8 streams",
            Self::ThroughputCost | Self::ManyThroughputCost => "  whole machine",
            Self::FirstPacketMedian => "first packet of a flow, there and back, p50",
        }
    }

    pub(crate) fn unit(self) -> Unit {
        match self {
            Self::PacketRate => Unit::PacketsPerSecond,
            Self::PacketLoss => Unit::Share,
            Self::ConnectionRate => Unit::ConnectionsPerSecond,
            Self::PacketCost | Self::ConnectionCost => Unit::ProcessorNanoseconds,
            // By ticks of a clock that is too coarse for subtracting.
            Self::ConnectionMachineCost => Unit::Nanoseconds,
            Self::TcpMedian | Self::TcpTail | Self::TcpFarTail => Unit::Nanoseconds,
            Self::UdpMedian | Self::UdpTail | Self::UdpFarTail | Self::FirstPacketMedian => Unit::Nanoseconds,
            Self::Throughput | Self::ManyThroughput => Unit::BitsPerSecond,
            Self::ThroughputCost | Self::ManyThroughputCost => Unit::ProcessorSecondsPerGigabyte,
        }
    }
}
