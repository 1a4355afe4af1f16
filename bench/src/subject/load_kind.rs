//! The kinds of traffic that are put on paths.

/// A kind of traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LoadKind {
    Packets,
    Connections,
    TcpRoundTrips,
    UdpRoundTrips,
    OneStream,
    EightStreams,
}

impl LoadKind {
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
}
