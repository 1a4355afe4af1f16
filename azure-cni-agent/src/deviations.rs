//! How the node differs from the one that the programs were loaded for, and what is to be done about each difference. Pure.
//!
//! The rule: what the running agent can put right, it puts right. Constants of the programs change by a start alone, and the agent
//! starts again only once the node is as that start needs it. The rest is the operator's.
#![forbid(unsafe_code)]

use std::fmt;
use std::net::IpAddr;

use azure_cni_datapath::{Attachment, Hook};
use azure_cni_ipam::Addresses;

use crate::net::Link;

/// What the programs were loaded with, and what there was then.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub uplink: Link,
    pub wanted: Wanted,
    /// Whether the uplink has had a default route since: IPv4, IPv6.
    pub default_routes: [bool; 2],
}

/// What a pool needs of the uplink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    pub primaries: Addresses,
    pub dual_stack: bool,
}

#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// The interface that the programs were loaded for; `None`: it is gone.
    pub uplink: Option<Link>,
    /// If it is gone, the one that a start would take now.
    pub successor: Option<Link>,
    /// Those of the uplink, or of its successor.
    pub addresses: Vec<IpAddr>,
    /// What the source lists now, if a start is needed to use it.
    pub listed: Option<Wanted>,
    /// Whether the uplink has a default route: IPv4, IPv6. `None`: not known.
    pub default_routes: [Option<bool>; 2],
    pub programs: Vec<(Hook, Attachment)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deviation {
    UplinkGone {
        name: String,
    },
    UplinkReplaced {
        name: String,
    },
    MtuChanged {
        name: String,
        from: u32,
        to: u32,
    },
    PrimaryGone {
        name: String,
        primary: IpAddr,
        present: Vec<IpAddr>,
    },
    /// The source lists another pool, and the uplink has its primary addresses.
    PoolListed {
        primaries: Addresses,
    },
    NoDefaultRoute {
        name: String,
        family: &'static str,
    },
    ProgramGone(Hook),
    /// The agent would start again, and the start would fail.
    CannotStart {
        why: String,
        problem: String,
        cuts_off: bool,
    },
}

/// What is to be done about a deviation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    PutBack(Hook),
    StartAgain,
    Operator,
}

pub fn compare(loaded: &Loaded, observed: &Observed) -> Vec<Deviation> {
    let name = || loaded.uplink.name.clone();
    let wanted = observed.listed.unwrap_or(loaded.wanted);
    let is_there = |wanted: Wanted| wanted.primaries().all(|primary| observed.addresses.contains(&primary));
    let Some(uplink) = &observed.uplink else {
        return vec![match &observed.successor {
            Some(link) if is_there(wanted) => Deviation::UplinkReplaced { name: link.name.clone() },
            _ => Deviation::UplinkGone { name: name() },
        }];
    };
    let mut deviations = Vec::new();
    if uplink.mtu != loaded.uplink.mtu {
        deviations.push(Deviation::MtuChanged { name: name(), from: loaded.uplink.mtu, to: uplink.mtu });
    }
    if observed.listed.is_some() && is_there(wanted) {
        deviations.push(Deviation::PoolListed { primaries: wanted.primaries });
    } else {
        let gone = loaded.wanted.primaries().filter(|primary| !observed.addresses.contains(primary));
        deviations.extend(gone.map(|primary| Deviation::PrimaryGone {
            name: name(),
            primary,
            present: observed.addresses.clone(),
        }));
    }
    for (family, (had, has)) in
        ["IPv4", "IPv6"].into_iter().zip(loaded.default_routes.into_iter().zip(observed.default_routes))
    {
        let matters = family == "IPv4" || loaded.wanted.dual_stack;
        if matters && had && has == Some(false) {
            deviations.push(Deviation::NoDefaultRoute { name: name(), family });
        }
    }
    let gone =
        observed.programs.iter().filter(|(_, found)| matches!(found, Attachment::Missing | Attachment::Outdated));
    deviations.extend(gone.map(|(hook, _)| Deviation::ProgramGone(*hook)));
    deviations
}

impl Wanted {
    /// The addresses that the uplink must have: the primary ones of the families that pods get.
    fn primaries(self) -> impl Iterator<Item = IpAddr> {
        self.primaries
            .iter()
            .collect::<Vec<_>>()
            .into_iter()
            .filter(move |primary| primary.is_ipv4() || self.dual_stack)
    }
}

impl Deviation {
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::ProgramGone(hook) => Remedy::PutBack(*hook),
            Self::UplinkReplaced { .. } | Self::MtuChanged { .. } | Self::PoolListed { .. } => Remedy::StartAgain,
            Self::UplinkGone { .. }
            | Self::PrimaryGone { .. }
            | Self::NoDefaultRoute { .. }
            | Self::CannotStart { .. } => Remedy::Operator,
        }
    }

    /// Whether pods have no network as long as it lasts.
    pub fn cuts_off(&self) -> bool {
        match self {
            Self::UplinkGone { .. }
            | Self::UplinkReplaced { .. }
            | Self::MtuChanged { .. }
            | Self::PrimaryGone { .. }
            | Self::NoDefaultRoute { .. }
            | Self::ProgramGone(_) => true,
            Self::PoolListed { .. } => false,
            Self::CannotStart { cuts_off, .. } => *cuts_off,
        }
    }
}

impl fmt::Display for Deviation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UplinkGone { name } => {
                write!(f, "uplink {name} is gone: once it is back with its addresses, the agent takes it by itself")
            }
            Self::UplinkReplaced { name } => write!(f, "uplink {name} was removed and is back"),
            Self::MtuChanged { name, from, to } => {
                write!(f, "the MTU of uplink {name} has changed from {from} to {to}")
            }
            Self::PrimaryGone { name, primary, present } => {
                let present: Vec<_> = present.iter().map(ToString::to_string).collect();
                write!(
                    f,
                    "uplink {name} does not have the pool's primary address {primary} any more, which pods' packets are \
                     translated to; it has: {}. Give it that address, or have the pool's source list the one that it has",
                    present.join(", ")
                )
            }
            Self::PoolListed { primaries } => {
                let primaries: Vec<_> = primaries.iter().map(|primary| primary.to_string()).collect();
                write!(
                    f,
                    "the pool's source lists what the programs were not loaded for, with primary addresses {}",
                    primaries.join(" ")
                )
            }
            Self::NoDefaultRoute { name, family } => {
                write!(
                    f,
                    "the default route of {family} by uplink {name} is gone, so pods have no way out: ip route add default ..."
                )
            }
            Self::ProgramGone(hook) => write!(f, "program {} is not attached to the uplink", hook.program()),
            Self::CannotStart { why, problem, .. } => {
                write!(f, "{why}, and the agent cannot start again for it: {problem}")
            }
        }
    }
}

#[cfg(test)]
mod tests;
