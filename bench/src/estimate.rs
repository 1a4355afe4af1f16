//! About how long a plan takes, before it is known better. Pure; figures of a virtual machine with two cores.

use std::time::Duration;

use crate::{
    arm::Arm,
    load::Load,
    plan::{Path, Plan, Topic},
    progress::{Estimate, Part},
    scale::Scale,
};

pub(crate) fn of(plan: &Plan) -> Vec<Estimate> {
    let arms = [Arm::Bare, Arm::Floor, Arm::Ours, Arm::Bridge, Arm::BridgeLegacy, Arm::Ptp];
    let of_arms = |(path, load): &(Path, Load)| {
        let measured = arms.iter().filter(|arm| plan.is_measured(*path, *load, **arm)).count();
        std::iter::repeat_n(of_run(plan, *load), measured)
    };
    let loads: Vec<f64> = plan.loads.iter().flat_map(of_arms).collect();
    // What makes an axis, and the loads at each of its places.
    let at_place = |scale: Scale| {
        let own = of_run(plan, Load::Packets) * 1.5;
        [own].into_iter().chain(scale.loads(plan.mode).iter().map(|load| of_run(plan, *load)))
    };
    let scale: Vec<f64> = plan.scales().flat_map(|scale| (0..scale.vms()).flat_map(move |_| at_place(scale))).collect();
    let rounds = u32::from(plan.rounds);
    let restart = if plan.has(Topic::Restart) { 3 * rounds } else { 0 };
    let calls = if plan.has(Topic::Calls) { 3 * u32::from(plan.short_rounds()) } else { 0 };
    let estimate = |part, steps, each| Estimate { part, steps, each: Duration::from_secs_f64(each) };
    vec![
        estimate(Part::Calls, calls, f64::from(plan.pods) * 0.05 + 2.0),
        estimate(Part::Programs, plan.has(Topic::Programs).into(), 10.0),
        estimate(Part::Building, u32::from(!plan.loads.is_empty()), 10.0),
        estimate(Part::Loads, loads.len() as u32 * rounds, mean(&loads)),
        estimate(Part::Scale, scale.len() as u32 * rounds, mean(&scale)),
        estimate(Part::Restart, restart, 1.2),
    ]
}

/// Seconds of one run.
fn of_run(plan: &Plan, load: Load) -> f64 {
    let duration = plan.duration.as_secs_f64();
    match load {
        Load::OneStream | Load::EightStreams => duration.ceil() + 0.2,
        _ => duration + 0.1,
    }
}

fn mean(seconds: &[f64]) -> f64 {
    seconds.iter().sum::<f64>() / seconds.len().max(1) as f64
}
