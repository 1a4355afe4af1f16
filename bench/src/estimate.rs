//! About how long a plan takes, before it is known better. Pure; figures of a virtual machine with two cores.

use std::time::Duration;

use crate::{
    calls,
    plan::Plan,
    progress::{Estimate, Part},
    scale,
    subject::{LoadKind, PathKind, Scale, Topic},
    testbed,
    variant::Variant,
};

pub(crate) fn of(plan: &Plan) -> Vec<Estimate> {
    let variants =
        [Variant::Bare, Variant::LowerBound, Variant::Ours, Variant::OursServicesKnown, Variant::Bridge, Variant::Ptp];
    let of_variants = |(path, load): &(PathKind, LoadKind)| {
        let measured = variants.iter().filter(|variant| plan.is_measured(*path, *load, **variant)).count();
        std::iter::repeat_n(of_run(plan, *load), measured)
    };
    let loads: Vec<f64> = plan.loads.iter().flat_map(of_variants).collect();
    let of_round: Vec<f64> = plan
        .scales()
        .flat_map(|scale| std::iter::repeat_n(scale, scale::vms_of(scale)))
        .flat_map(|scale| of_place(plan, scale))
        .collect();
    let building = std::iter::repeat_n(BUILDING_VM, scale::vms(plan));
    let scale: Vec<f64> = building.chain(of_round.repeat(plan.rounds.into())).collect();
    let rounds = u32::from(plan.rounds);
    let restart = if plan.has(Topic::Restart) { 3 * rounds } else { 0 };
    let calls = calls::vms(plan) as u32 * u32::from(plan.short_rounds());
    let estimate = |part, steps, each| Estimate { part, steps, each: Duration::from_secs_f64(each) };
    vec![
        estimate(Part::Calls, calls, f64::from(plan.pods) * 0.05 + 1.2),
        estimate(Part::Programs, plan.has(Topic::Programs).into(), 8.0),
        estimate(Part::Building, testbed::vms(plan) as u32, 0.7),
        estimate(Part::Loads, loads.len() as u32 * rounds, mean(&loads)),
        estimate(Part::Scale, scale.len() as u32, mean(&scale)),
        estimate(Part::Restart, restart, 1.2),
    ]
}

/// Seconds for a VM with its pods, and what stands in its tables.
const BUILDING_VM: f64 = 1.5;

/// Seconds of each run at a place of an axis: what makes the axis, and the loads.
fn of_place(plan: &Plan, scale: Scale) -> Vec<f64> {
    let own = (scale != Scale::Pods).then(|| of_run(plan, LoadKind::Packets) * 1.5);
    own.into_iter().chain(scale.loads(plan.mode).iter().map(|load| of_run(plan, *load))).collect()
}

/// Seconds of one run.
fn of_run(plan: &Plan, load: LoadKind) -> f64 {
    let duration = plan.duration.as_secs_f64();
    match load {
        LoadKind::OneStream | LoadKind::EightStreams => duration.ceil() + 0.2,
        _ => duration + 0.1,
    }
}

fn mean(seconds: &[f64]) -> f64 {
    seconds.iter().sum::<f64>() / seconds.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::options::Options;

    #[test]
    fn modes_take_about_as_long_as_they_say() {
        for (mode, minutes) in [("--quick", 1.0..2.0), ("--seconds=0.4", 9.0..12.0), ("--full", 45.0..75.0)] {
            let plan = Plan::of(&Options::parse_from(["bench", mode]));
            let seconds: f64 = of(&plan).iter().map(|part| part.each.as_secs_f64() * f64::from(part.steps)).sum();
            assert!(minutes.contains(&(seconds / 60.0)), "{mode}: {seconds:.0} s");
        }
    }
}
