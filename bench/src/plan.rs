//! What there is to measure, and what of it was asked for. Pure.

use std::{fmt, time::Duration};

use clap::ValueEnum;
use serde::Serialize;

use crate::{load::Load, options::Options, statistics::FEWEST_ROUNDS};

/// A way to attach pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Arm {
    /// Two namespaces and a veth pair: what the machine can do
    Bare,
    /// azure-cni-ebpf: the agent, the plugin and the programs as they are shipped
    Ours,
    /// The reference bridge plugin, host-local, and MASQUERADE for what leaves the VNet
    Bridge,
}

impl Arm {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Bare => "bare veth pair",
            Self::Ours => "azure-cni-ebpf",
            Self::Bridge => "bridge + iptables",
        }
    }
}

/// From where to where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Path {
    SameVm,
    AcrossVms,
    Internet,
}

impl Path {
    const ALL: [Self; 3] = [Self::SameVm, Self::AcrossVms, Self::Internet];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::SameVm => "same-vm",
            Self::AcrossVms => "across-vms",
            Self::Internet => "internet",
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::SameVm => "pod to pod on the same VM",
            Self::AcrossVms => "pod to pod across VMs, one wire between them",
            Self::Internet => "pod to Internet, behind the VM's address, one wire from the VM",
        }
    }

    /// A bare veth pair has but one hop: it stands for the shortest path.
    pub(crate) fn arms(self) -> &'static [Arm] {
        match self {
            Self::SameVm => &[Arm::Bare, Arm::Ours, Arm::Bridge],
            Self::AcrossVms | Self::Internet => &[Arm::Ours, Arm::Bridge],
        }
    }
}

/// How the programs' own cost, in time and in memory, is called in filters.
const PROGRAMS: &str = "programs";
const MEMORY: &str = "memory";
/// Likewise of the book of leases, and of CNI calls.
const LEASES: &str = "leases";
const CALLS: &str = "calls";

/// The platform's limit for a VM.
pub(crate) const MOST_PODS: u8 = 250;

/// What to measure, and how long.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) rounds: u16,
    /// Of one load in one round.
    pub(crate) duration: Duration,
    /// In the order of the report.
    pub(crate) loads: Vec<(Path, Load)>,
    pub(crate) programs: bool,
    pub(crate) memory: bool,
    pub(crate) leases: bool,
    pub(crate) calls: bool,
    /// That CNI calls are made for.
    pub(crate) pods: usize,
    /// Each attaches and detaches all pods twice, on every arm.
    pub(crate) call_rounds: u16,
    arms: Vec<Arm>,
}

impl Plan {
    pub(crate) fn of(options: &Options) -> Self {
        let (rounds, seconds) = if options.quick { (5, 0.4) } else { (7, 1.0) };
        let wanted = |name: &str| options.filter.is_empty() || options.filter.iter().any(|text| name.contains(text));
        let all = Path::ALL.into_iter().flat_map(|path| Load::ALL.into_iter().map(move |load| (path, load)));
        Self {
            rounds: options.rounds.unwrap_or(rounds),
            duration: Duration::from_secs_f64(options.seconds.unwrap_or(seconds)),
            loads: all.filter(|(path, load)| wanted(&name(*path, *load))).collect(),
            programs: wanted(PROGRAMS),
            memory: wanted(MEMORY),
            leases: wanted(LEASES),
            calls: wanted(CALLS),
            pods: options.pods.unwrap_or(if options.quick { 25 } else { MOST_PODS }).into(),
            call_rounds: options.rounds.unwrap_or(FEWEST_ROUNDS),
            arms: options.arm.clone(),
        }
    }

    pub(crate) fn has(&self, arm: Arm) -> bool {
        self.arms.is_empty() || self.arms.contains(&arm)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.loads.is_empty() && !self.programs && !self.memory && !self.leases && !self.calls
    }
}

fn name(path: Path, load: Load) -> String {
    format!("{}/{}", path.name(), load.name())
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (path, load) in &self.loads {
            writeln!(f, "{:<28}{}, {}", name(*path, *load), path.title(), load.title())?;
        }
        if self.programs {
            writeln!(f, "{PROGRAMS:<28}nanoseconds per packet of each eBPF program, by BPF_PROG_TEST_RUN")?;
        }
        if self.memory {
            writeln!(f, "{MEMORY:<28}bytes that a flow takes, by the kernel's account of the tables")?;
        }
        if self.leases {
            writeln!(f, "{LEASES:<28}nanoseconds of a lease and its release, by the size of the pool")?;
        }
        if self.calls {
            writeln!(f, "{CALLS:<28}CNI ADD and DEL of {} pods, the plugin's whole run", self.pods)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn plan(arguments: &[&str]) -> Plan {
        Plan::of(&Options::parse_from([&["bench"], arguments].concat()))
    }

    #[test]
    fn without_filters_everything_is_measured() {
        let plan = plan(&[]);
        assert_eq!(plan.loads.len(), Path::ALL.len() * Load::ALL.len());
        assert!(
            plan.programs && plan.memory && plan.leases && plan.calls && plan.has(Arm::Bare) && plan.has(Arm::Bridge)
        );
    }

    #[test]
    fn filters_add_up() {
        let plan = plan(&["--filter", "same-vm/udp", "--filter", "internet/"]);
        let expected = 1 + Load::ALL.len();
        assert_eq!(plan.loads.len(), expected, "{plan}");
        assert!(!plan.programs && !plan.memory && !plan.leases && !plan.calls);
    }

    #[test]
    fn quick_run_still_has_enough_rounds_to_judge() {
        assert!(plan(&["--quick"]).rounds >= crate::statistics::FEWEST_ROUNDS);
    }

    #[test]
    fn filter_that_matches_nothing_leaves_an_empty_plan() {
        assert!(plan(&["--filter", "no such thing"]).is_empty());
    }
}
