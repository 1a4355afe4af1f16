//! The paths that loads run on: from where to where.

/// From where to where. A [`crate::path::Path`] is one variant's instance of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PathKind {
    SameVm,
    AcrossVms,
    Internet,
    FromOutside,
    FromHost,
}

impl PathKind {
    pub(crate) const ALL: [Self; 5] =
        [Self::SameVm, Self::AcrossVms, Self::Internet, Self::FromOutside, Self::FromHost];
    /// Those that a change of the data path is judged by.
    pub(crate) const QUICK: [Self; 3] = [Self::SameVm, Self::AcrossVms, Self::Internet];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::SameVm => "same-vm",
            Self::AcrossVms => "across-vms",
            Self::Internet => "internet",
            Self::FromOutside => "from-outside",
            Self::FromHost => "from-host",
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::SameVm => "pod to pod on the same VM",
            Self::AcrossVms => "pod to pod across VMs, one wire between them",
            Self::Internet => "pod to Internet, behind the VM's address, one wire from the VM",
            Self::FromOutside => "host of a peered network to pod, one wire from the VM",
            Self::FromHost => "VM to a pod of its own",
        }
    }

    pub(crate) fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|path| path.name() == name)
    }

    /// Whether the redirect-only programs can carry packets along it.
    pub(crate) fn has_lower_bound(self) -> bool {
        matches!(self, Self::SameVm | Self::AcrossVms | Self::Internet)
    }
}
