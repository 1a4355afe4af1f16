//! What there is to measure, what of it was asked for, and about how long it takes. Pure.

use std::{fmt, time::Duration};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::{arm::Arm, load::Load, options::Options, scale::Scale, statistics::FEWEST_ROUNDS};

/// From where to where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Path {
    SameVm,
    AcrossVms,
    Internet,
    FromOutside,
    FromHost,
}

impl Path {
    pub(crate) const ALL: [Self; 5] =
        [Self::SameVm, Self::AcrossVms, Self::Internet, Self::FromOutside, Self::FromHost];
    /// Those that a change of the data path is judged by.
    const QUICK: [Self; 3] = [Self::SameVm, Self::AcrossVms, Self::Internet];

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

    /// Whether the far end is reached through programs that the arm of redirects alone has.
    fn has_floor(self) -> bool {
        matches!(self, Self::SameVm | Self::AcrossVms | Self::Internet)
    }
}

/// How thorough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mode {
    Quick,
    Default,
    Full,
}

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
    const ALL: [Self; 9] = [
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
    const QUICK: [Self; 4] = [Self::Programs, Self::Memory, Self::Leases, Self::Calls];

    fn name(self) -> String {
        match self {
            Self::Scale(scale) => format!("scale/{}", scale.name()),
            Self::Restart => "restart".into(),
            Self::Programs => "programs".into(),
            Self::Memory => "memory".into(),
            Self::Leases => "leases".into(),
            Self::Calls => "calls".into(),
        }
    }

    fn title(self) -> &'static str {
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

/// The platform's limit for a VM.
pub(crate) const MOST_PODS: u8 = 250;

/// What to measure, and how long.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) mode: Mode,
    pub(crate) rounds: u16,
    /// Of one load in one round.
    pub(crate) duration: Duration,
    /// In the order of the report.
    pub(crate) loads: Vec<(Path, Load)>,
    topics: Vec<Topic>,
    /// That CNI calls are made for, at most, and that the largest VM of the scale has.
    pub(crate) pods: u8,
    /// Those asked for; none: all that the mode has.
    arms: Vec<Arm>,
    /// Those that this machine cannot have.
    absent: Vec<Arm>,
}

/// Not every machine can have them, and the others are worth measuring without.
const OPTIONAL_ARMS: [Arm; 1] = [Arm::BridgeLegacy];

impl Plan {
    pub(crate) fn of(options: &Options) -> Self {
        let mode = match (options.quick, options.full) {
            (true, _) => Mode::Quick,
            (_, true) => Mode::Full,
            _ => Mode::Default,
        };
        let (rounds, seconds, pods) = match mode {
            Mode::Quick => (5, 0.4, 25),
            Mode::Default => (5, 0.4, MOST_PODS),
            Mode::Full => (15, 0.5, MOST_PODS),
        };
        // Without a filter the mode says what is measured; with one, whatever has that name.
        let wanted = |name: &str, by_mode: bool| match &*options.filter {
            [] => by_mode,
            texts => texts.iter().any(|text| name.contains(text)),
        };
        let quick = mode == Mode::Quick;
        let all = Path::ALL.into_iter().flat_map(|path| Load::ALL.into_iter().map(move |load| (path, load)));
        let by_mode = |path: Path, load: Load| match mode {
            Mode::Quick => Path::QUICK.contains(&path) && Load::QUICK.contains(&load),
            // The two paths that differ least from others tell little more with every load.
            Mode::Default => Path::QUICK.contains(&path) || Load::QUICK.contains(&load),
            Mode::Full => true,
        };
        Self {
            mode,
            rounds: options.rounds.unwrap_or(rounds),
            duration: Duration::from_secs_f64(options.seconds.unwrap_or(seconds)),
            loads: all.filter(|(path, load)| wanted(&name(*path, *load), by_mode(*path, *load))).collect(),
            topics: Topic::ALL
                .into_iter()
                .filter(|topic| wanted(&topic.name(), !quick || Topic::QUICK.contains(topic)))
                .collect(),
            pods: options.pods.unwrap_or(pods),
            arms: options.arm.clone(),
            absent: Vec::new(),
        }
    }

    /// Without the arms that one can do without and that this machine cannot have. One that was asked for by its name stays:
    /// whoever asked shall be told what is missing.
    pub(crate) fn without_absent(mut self, is_usable: impl Fn(Arm) -> Result<bool>) -> Result<Self> {
        for arm in OPTIONAL_ARMS {
            if self.has_arm(arm) && !self.arms.contains(&arm) && !is_usable(arm)? {
                self.absent.push(arm);
            }
        }
        Ok(self)
    }

    pub(crate) fn absent_arms(&self) -> &[Arm] {
        &self.absent
    }

    pub(crate) fn has(&self, topic: Topic) -> bool {
        self.topics.contains(&topic)
    }

    pub(crate) fn scales(&self) -> impl Iterator<Item = Scale> {
        self.topics.iter().filter_map(|topic| match topic {
            Topic::Scale(scale) => Some(*scale),
            _ => None,
        })
    }

    /// Whether an arm takes part at all: those asked for; in a quick run the ones that a change is judged by.
    pub(crate) fn has_arm(&self, arm: Arm) -> bool {
        match &*self.arms {
            [] if self.mode == Mode::Quick => matches!(arm, Arm::Bare | Arm::Ours | Arm::Bridge),
            [] => !self.absent.contains(&arm),
            arms => arms.contains(&arm),
        }
    }

    /// Whether an arm carries a load along a path. The bare pair has but one hop: it stands for the shortest path.
    pub(crate) fn is_measured(&self, path: Path, load: Load, arm: Arm) -> bool {
        let is_thorough = self.is_thorough();
        let has_part = match arm {
            Arm::Bare => path == Path::SameVm,
            // What it is for: the share that is ours of a packet's cost and of a connection's.
            Arm::Floor => path.has_floor() && (is_thorough || matches!(load, Load::Packets | Load::Connections)),
            // The kinds of iptables differ where they have something to do.
            Arm::BridgeLegacy => {
                is_thorough || (path == Path::Internet && matches!(load, Load::Packets | Load::Connections))
            }
            Arm::Ptp => is_thorough || !matches!(load, Load::EightStreams | Load::UdpRoundTrips),
            Arm::Ours | Arm::Bridge => true,
        };
        has_part && self.has_arm(arm)
    }

    /// Whether CNI calls are made to an arm's plugin.
    pub(crate) fn is_called(&self, arm: Arm) -> bool {
        self.has_arm(arm) && (arm != Arm::Ptp || self.is_thorough())
    }

    /// Whether what tells little more than its neighbours is measured too.
    fn is_thorough(&self) -> bool {
        self.mode == Mode::Full || !self.arms.is_empty()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.loads.is_empty() && self.topics.is_empty()
    }

    /// What CNI calls and the leases are repeated: both need no time of their own to settle.
    pub(crate) fn short_rounds(&self) -> u16 {
        self.rounds.min(if self.mode == Mode::Full { 9 } else { FEWEST_ROUNDS })
    }
}

fn name(path: Path, load: Load) -> String {
    format!("{}/{}", path.name(), load.name())
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (path, load) in &self.loads {
            writeln!(f, "{:<30}{}, {}", name(*path, *load), path.title(), load.title())?;
        }
        for topic in &self.topics {
            writeln!(f, "{:<30}{}", topic.name(), topic.title())?;
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

    fn on_machine(arguments: &[&str], is_usable: impl Fn(Arm) -> bool) -> Plan {
        plan(arguments).without_absent(|arm| Ok(is_usable(arm))).expect("the machine tells")
    }

    #[test]
    fn full_run_measures_everything() {
        let plan = plan(&["--full"]);
        assert_eq!(plan.loads.len(), Path::ALL.len() * Load::ALL.len());
        assert!(Topic::ALL.into_iter().all(|topic| plan.has(topic)));
        assert!(Arm::PEERS.into_iter().all(|arm| plan.has_arm(arm)));
    }

    #[test]
    fn quick_run_measures_what_a_change_is_judged_by() {
        let plan = plan(&["--quick"]);
        assert_eq!(plan.loads.len(), Path::QUICK.len() * Load::QUICK.len());
        assert!(plan.has(Topic::Programs) && !plan.has(Topic::Restart) && !plan.has_arm(Arm::Ptp));
    }

    #[test]
    fn default_run_leaves_out_what_the_second_reference_adds_little_to() {
        for (arguments, is_there) in [(&[][..], false), (&["--full"], true), (&["--arm", "ptp"], true)] {
            let plan = plan(arguments);
            assert_eq!(plan.is_called(Arm::Ptp), is_there, "{arguments:?}");
            assert_eq!(plan.is_measured(Path::SameVm, Load::EightStreams, Arm::Ptp), is_there, "{arguments:?}");
            assert!(plan.is_measured(Path::SameVm, Load::OneStream, Arm::Ptp), "{arguments:?}");
        }
    }

    #[test]
    fn filters_add_up_and_name_what_the_mode_leaves_out() {
        let plan = plan(&["--quick", "--filter", "from-host/udp-packets", "--filter", "scale/"]);
        assert_eq!(plan.loads, [(Path::FromHost, Load::Packets)], "{plan}");
        assert_eq!(plan.scales().count(), 4);
        assert!(!plan.has(Topic::Programs) && !plan.has(Topic::Calls));
    }

    #[test]
    fn every_mode_has_enough_rounds_to_judge() {
        for mode in ["--quick", "--full", "--filter=x"] {
            assert!(plan(&[mode]).rounds >= FEWEST_ROUNDS);
        }
    }

    #[test]
    fn arm_that_is_asked_for_carries_every_load_that_it_can() {
        let plan = plan(&["--arm", "bridge-legacy", "--arm", "floor"]);
        assert!(plan.is_measured(Path::SameVm, Load::OneStream, Arm::BridgeLegacy));
        assert!(plan.is_measured(Path::SameVm, Load::OneStream, Arm::Floor));
        assert!(!plan.is_measured(Path::FromHost, Load::Packets, Arm::Floor));
        assert!(!plan.is_measured(Path::SameVm, Load::Packets, Arm::Ours));
    }

    #[test]
    fn machine_without_the_older_iptables_is_measured_without_that_arm() {
        let without_legacy = |arm| arm != Arm::BridgeLegacy;
        let default = on_machine(&[], without_legacy);
        assert_eq!(default.absent_arms(), [Arm::BridgeLegacy]);
        assert!(!default.is_measured(Path::Internet, Load::Packets, Arm::BridgeLegacy));
        assert!(Arm::PEERS.into_iter().filter(|arm| without_legacy(*arm)).all(|arm| default.has_arm(arm)));
        assert!(on_machine(&[], |_| true).has_arm(Arm::BridgeLegacy));
    }

    #[test]
    fn arm_that_is_asked_for_or_that_nothing_makes_up_for_is_never_left_out() {
        let asked_for = on_machine(&["--arm", "bridge-legacy"], |_| false);
        assert!(asked_for.has_arm(Arm::BridgeLegacy) && asked_for.absent_arms().is_empty());
        assert!(on_machine(&[], |_| false).has_arm(Arm::Bridge));
        assert!(on_machine(&["--quick"], |_| false).absent_arms().is_empty(), "it was not to be measured");
    }

    #[test]
    fn filter_that_matches_nothing_leaves_an_empty_plan() {
        assert!(plan(&["--filter", "no such thing"]).is_empty());
    }
}
