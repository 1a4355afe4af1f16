//! What a run measures besides loads on paths.

use super::scale::Scale;

/// A thing to measure besides loads on paths, as filters call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Topic {
    Scale(Scale),
    Restart,
    Programs,
    Memory,
    Leases,
    Calls,
}

impl Topic {
    pub(crate) const ALL: [Self; 9] = [
        Self::Scale(Scale::Pods),
        Self::Scale(Scale::RemoteAddresses),
        Self::Scale(Scale::Flows),
        Self::Scale(Scale::PortsTaken),
        Self::Restart,
        Self::Programs,
        Self::Memory,
        Self::Leases,
        Self::Calls,
    ];
    pub(crate) const QUICK: [Self; 4] = [Self::Programs, Self::Memory, Self::Leases, Self::Calls];

    pub(crate) fn name(self) -> String {
        match self {
            Self::Scale(scale) => format!("scale/{}", scale.name()),
            Self::Restart => "restart".into(),
            Self::Programs => "programs".into(),
            Self::Memory => "memory".into(),
            Self::Leases => "leases".into(),
            Self::Calls => "calls".into(),
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Scale(scale) => scale.title(),
            Self::Restart => "packets lost, and the longest gap, while the agent is restarted or killed under load",
            Self::Programs => {
                "cost of each eBPF program for a packet, by BPF_PROG_TEST_RUN; its map look-ups and instructions"
            }
            Self::Memory => "bytes that a flow takes, by the kernel's account of the tables",
            Self::Leases => "nanoseconds of a lease and its release, by the size of the pool",
            Self::Calls => "CNI ADD and DEL, the plugin's whole run, one at a time and all at once",
        }
    }
}
