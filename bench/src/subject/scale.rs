//! The axes along which one thing grows while the rest stays the same.

use super::{load_kind::LoadKind, mode::Mode};
use crate::record::{At, Axis};

/// What grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    Pods,
    RemoteAddresses,
    Flows,
    PortsTaken,
}

impl Scale {
    /// What one client and one server do at each place, besides what makes the axis: the cheap and the telling, or everything.
    pub(crate) fn loads(self, mode: Mode) -> &'static [LoadKind] {
        use LoadKind::*;
        match (self, mode) {
            (Self::Pods, _) => &[Packets, Connections, TcpRoundTrips, OneStream],
            (Self::RemoteAddresses | Self::Flows | Self::PortsTaken, Mode::Full) => {
                &[Connections, TcpRoundTrips, OneStream]
            }
            (Self::Flows | Self::PortsTaken, _) => &[Connections, TcpRoundTrips],
            // What a thousand addresses are to tables, a thousand flows are.
            (Self::RemoteAddresses, _) => &[],
        }
    }

    /// Of its records.
    pub(crate) fn topic(self) -> String {
        format!("scale-{}", self.name())
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pods => "pods",
            Self::RemoteAddresses => "remote-addresses",
            Self::Flows => "flows",
            Self::PortsTaken => "ports-taken",
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Pods => "two pods of a VM, by how many pods it has",
            Self::RemoteAddresses => {
                "UDP packets to addresses of the VNet in turns, and TCP beside them, by how many they are"
            }
            Self::Flows => "UDP packets of flows in turns, and TCP beside them, by how many they are",
            Self::PortsTaken => {
                "first packets through source NAT, and TCP beside them, by how many ports to a destination are taken"
            }
        }
    }

    pub(crate) fn at(self, value: u32) -> At {
        let axis = match self {
            Self::Pods => Axis::Pods,
            Self::RemoteAddresses => Axis::RemoteAddresses,
            Self::Flows => Axis::Flows,
            Self::PortsTaken => Axis::PortsTaken,
        };
        At { axis, value }
    }
}
