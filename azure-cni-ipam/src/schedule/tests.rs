use proptest::prelude::*;

use super::*;

const MIN: Duration = Duration::from_secs(4);
const MAX: Duration = Duration::from_secs(1024);

#[test]
fn attempts_become_rarer_up_to_the_longest_pause() {
    let mut schedule = Schedule::new(MIN, MAX, Duration::ZERO);
    let mut pauses = vec![schedule.due().as_secs()];
    for _ in 0..10 {
        let now = schedule.due();
        schedule.attempted(NextAttempt::Later, now, 0.0);
        pauses.push((schedule.due() - now).as_secs());
    }
    assert_eq!(pauses, [4, 8, 16, 32, 64, 128, 256, 512, 1024, 1024, 1024]);
}

#[test]
fn a_change_brings_the_next_attempt_soon() {
    let mut schedule = Schedule::new(MIN, MAX, Duration::ZERO);
    for _ in 0..5 {
        schedule.attempted(NextAttempt::Later, schedule.due(), 0.5);
    }
    let now = schedule.due();
    schedule.attempted(NextAttempt::Soon, now, 1.0);
    assert_eq!(schedule.due() - now, MIN);
}

#[test]
fn a_hurry_waits_for_the_shortest_pause_only() {
    let mut schedule = Schedule::new(MIN, MAX, Duration::ZERO);
    for _ in 0..5 {
        schedule.attempted(NextAttempt::Later, schedule.due(), 0.0);
    }
    let attempted = schedule.due();
    schedule.attempted(NextAttempt::Later, attempted, 0.0);
    schedule.hurry();
    assert_eq!(schedule.due(), attempted + MIN);
    // And the next pauses are short ones again.
    schedule.attempted(NextAttempt::Later, schedule.due(), 0.0);
    assert_eq!(schedule.due(), attempted + MIN + 2 * MIN);
}

proptest! {
    #[test]
    fn every_pause_is_within_bounds_whatever_happens(
        min in 1u64..100, max in 1u64..2000, steps in proptest::collection::vec((any::<bool>(), any::<bool>(), any::<f64>()), 0..40),
    ) {
        let (min, max) = (Duration::from_secs(min), Duration::from_secs(max));
        let mut now = Duration::from_secs(7);
        let mut schedule = Schedule::new(min, max, now);
        for (later, hurry, chance) in steps {
            let pause = schedule.due() - now;
            prop_assert!(pause >= min && pause <= max.max(min), "{pause:?}");
            if hurry {
                schedule.hurry();
                prop_assert_eq!(schedule.due(), now + min);
            }
            now = schedule.due();
            schedule.attempted(if later { NextAttempt::Later } else { NextAttempt::Soon }, now, chance);
        }
    }
}
