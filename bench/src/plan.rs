//! What there is to measure, what of it was asked for, and about how long it takes. Pure.

use std::{fmt, time::Duration};

use crate::{
    options::{MAX_PODS, Options},
    statistics::MIN_ROUNDS,
    subject::{LoadKind, Mode, PathKind, Scale, Topic},
    variant::Variant,
};

/// What to measure, and how long.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) mode: Mode,
    pub(crate) rounds: u16,
    /// Of one load in one round.
    pub(crate) duration: Duration,
    /// In the order of the report.
    pub(crate) loads: Vec<(PathKind, LoadKind)>,
    topics: Vec<Topic>,
    /// That CNI calls are made for, at most, and that the largest VM of the scale has.
    pub(crate) pods: u8,
    /// Those asked for; none: all that the mode has.
    variants: Vec<Variant>,
}

impl Plan {
    pub(crate) fn of(options: &Options) -> Self {
        let mode = match (options.quick, options.full) {
            (true, _) => Mode::Quick,
            (_, true) => Mode::Full,
            _ => Mode::Default,
        };
        let (rounds, seconds, pods) = match mode {
            Mode::Quick => (5, 0.4, 25),
            Mode::Default => (5, 0.4, MAX_PODS),
            Mode::Full => (15, 0.5, MAX_PODS),
        };
        // Without a filter the mode says what is measured; with one, whatever has that name.
        let wanted = |name: &str, by_mode: bool| match &*options.filter {
            [] => by_mode,
            texts => texts.iter().any(|text| name.contains(text)),
        };
        let quick = mode == Mode::Quick;
        let all = PathKind::ALL.into_iter().flat_map(|path| LoadKind::ALL.into_iter().map(move |load| (path, load)));
        let by_mode = |path: PathKind, load: LoadKind| match mode {
            Mode::Quick => PathKind::QUICK.contains(&path) && LoadKind::QUICK.contains(&load),
            // The two paths that differ least from others say little more with every load.
            Mode::Default => PathKind::QUICK.contains(&path) || LoadKind::QUICK.contains(&load),
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
            variants: options.variant.clone(),
        }
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

    /// Whether a variant takes part at all: those asked for; in a quick run the ones that a change is judged by.
    pub(crate) fn has_variant(&self, variant: Variant) -> bool {
        match &*self.variants {
            [] if self.mode == Mode::Quick => variant.is_ours() || matches!(variant, Variant::Bare | Variant::Bridge),
            [] => true,
            variants => variants.contains(&variant),
        }
    }

    /// Whether a variant carries a load along a path. The bare pair has only one hop: it stands for the shortest path.
    pub(crate) fn is_measured(&self, path: PathKind, load: LoadKind, variant: Variant) -> bool {
        let is_thorough = self.is_thorough();
        let is_main = matches!(load, LoadKind::Packets | LoadKind::Connections);
        let has_part = match variant {
            Variant::Bare => path == PathKind::SameVm,
            // What it is for: the share that is ours of a packet's cost and of a connection's.
            Variant::LowerBound => path.has_lower_bound() && (is_thorough || is_main),
            // Only there can it differ from a default installation, see [`crate::testbed`].
            Variant::OursServicesKnown => path == PathKind::Internet && (is_thorough || is_main),
            Variant::Ptp => is_thorough || !matches!(load, LoadKind::EightStreams | LoadKind::UdpRoundTrips),
            Variant::Ours | Variant::Bridge => true,
        };
        has_part && self.has_variant(variant)
    }

    /// Whether CNI calls are made to a variant's plugin.
    pub(crate) fn is_called(&self, variant: Variant) -> bool {
        match variant {
            Variant::Ours | Variant::Bridge => self.has_variant(variant),
            Variant::Ptp => self.has_variant(variant) && self.is_thorough(),
            Variant::Bare | Variant::LowerBound | Variant::OursServicesKnown => false,
        }
    }

    /// Whether figures that say little more than their neighbours are measured too.
    fn is_thorough(&self) -> bool {
        self.mode == Mode::Full || !self.variants.is_empty()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.loads.is_empty() && self.topics.is_empty()
    }

    /// What CNI calls and the leases are repeated: both need no time of their own to settle.
    pub(crate) fn short_rounds(&self) -> u16 {
        self.rounds.min(if self.mode == Mode::Full { 9 } else { MIN_ROUNDS })
    }
}

fn name(path: PathKind, load: LoadKind) -> String {
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

    #[test]
    fn full_run_measures_everything() {
        let plan = plan(&["--full"]);
        assert_eq!(plan.loads.len(), PathKind::ALL.len() * LoadKind::ALL.len());
        assert!(Topic::ALL.into_iter().all(|topic| plan.has(topic)));
        assert!(Variant::PEERS.into_iter().all(|variant| plan.has_variant(variant)));
    }

    #[test]
    fn quick_run_measures_what_a_change_is_judged_by() {
        let plan = plan(&["--quick"]);
        assert_eq!(plan.loads.len(), PathKind::QUICK.len() * LoadKind::QUICK.len());
        assert!(plan.has(Topic::Programs) && !plan.has(Topic::Restart) && !plan.has_variant(Variant::Ptp));
    }

    #[test]
    fn default_run_leaves_out_what_the_second_reference_adds_little_to() {
        for (arguments, is_there) in [(&[][..], false), (&["--full"], true), (&["--variant", "ptp"], true)] {
            let plan = plan(arguments);
            assert_eq!(plan.is_called(Variant::Ptp), is_there, "{arguments:?}");
            assert_eq!(
                plan.is_measured(PathKind::SameVm, LoadKind::EightStreams, Variant::Ptp),
                is_there,
                "{arguments:?}"
            );
            assert!(plan.is_measured(PathKind::SameVm, LoadKind::OneStream, Variant::Ptp), "{arguments:?}");
        }
    }

    #[test]
    fn filters_add_up_and_name_what_the_mode_leaves_out() {
        let plan = plan(&["--quick", "--filter", "from-host/udp-packets", "--filter", "scale/"]);
        assert_eq!(plan.loads, [(PathKind::FromHost, LoadKind::Packets)], "{plan}");
        assert_eq!(plan.scales().count(), 4);
        assert!(!plan.has(Topic::Programs) && !plan.has(Topic::Calls));
    }

    #[test]
    fn every_mode_has_enough_rounds_to_judge() {
        for mode in ["--quick", "--full", "--filter=x"] {
            assert!(plan(&[mode]).rounds >= MIN_ROUNDS);
        }
    }

    #[test]
    fn variant_that_is_asked_for_carries_every_load_that_it_can() {
        let plan = plan(&["--variant", "ptp", "--variant", "lower-bound"]);
        assert!(plan.is_measured(PathKind::SameVm, LoadKind::UdpRoundTrips, Variant::Ptp));
        assert!(plan.is_measured(PathKind::SameVm, LoadKind::OneStream, Variant::LowerBound));
        assert!(!plan.is_measured(PathKind::FromHost, LoadKind::Packets, Variant::LowerBound));
        assert!(!plan.is_measured(PathKind::SameVm, LoadKind::Packets, Variant::Ours));
    }

    #[test]
    fn known_services_are_measured_only_where_they_can_make_a_difference() {
        for arguments in [&[][..], &["--quick"], &["--full"], &["--variant", "ours-services-known"]] {
            let plan = plan(arguments);
            for path in PathKind::ALL {
                let is_measured = plan.is_measured(path, LoadKind::Packets, Variant::OursServicesKnown);
                assert_eq!(is_measured, path == PathKind::Internet, "{arguments:?}");
            }
            assert!(!plan.is_called(Variant::OursServicesKnown), "{arguments:?}");
        }
    }

    #[test]
    fn filter_that_matches_nothing_leaves_an_empty_plan() {
        assert!(plan(&["--filter", "no such thing"]).is_empty());
    }
}
