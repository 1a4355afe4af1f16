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
    let seconds = Duration::from_secs_f64;
    let rounds = u32::from(plan.rounds);
    let arms = [Arm::Bare, Arm::Floor, Arm::Ours, Arm::Bridge, Arm::BridgeLegacy, Arm::Ptp];
    let runs =
        |path: &Path, load: &Load| arms.iter().filter(|arm| plan.is_measured(*path, *load, **arm)).count() as u32;
    let is_bulk = |load: &Load| matches!(load, Load::OneStream | Load::EightStreams);
    let count = |bulk: bool| -> u32 {
        plan.loads.iter().filter(|(_, load)| is_bulk(load) == bulk).map(|(path, load)| runs(path, load)).sum()
    };
    let (short, bulk) = (count(false), count(true));
    let load = plan.duration.as_secs_f64() + 0.1;
    let all_loads = f64::from(short) * load + f64::from(bulk) * (plan.duration.as_secs_f64().ceil() + 0.2);
    let steps = (short + bulk) * rounds;
    let each = seconds(all_loads * f64::from(rounds) / f64::from(steps.max(1)));

    let scaled = |scale| match scale {
        Scale::Pods => 12,
        Scale::RemoteAddresses | Scale::Flows => 8,
        Scale::PortsTaken => 4,
    };
    let scale = plan.scales().map(scaled).sum::<u32>() * rounds;
    let restart = if plan.has(Topic::Restart) { 3 * rounds } else { 0 };
    let programs = u32::from(plan.has(Topic::Programs));
    let calls = if plan.has(Topic::Calls) { 3 * u32::from(plan.short_rounds()) } else { 0 };
    let estimate = |part, steps, each| Estimate { part, steps, each };
    vec![
        estimate(Part::Calls, calls, seconds(f64::from(plan.pods) * 0.05 + 2.0)),
        estimate(Part::Programs, programs, seconds(10.0)),
        estimate(Part::Building, u32::from(!plan.loads.is_empty()), seconds(10.0)),
        estimate(Part::Loads, steps, each),
        estimate(Part::Scale, scale, seconds(load * 1.5)),
        estimate(Part::Restart, restart, seconds(1.2)),
    ]
}
