use proptest::prelude::*;

use super::*;

const MIN: Duration = Duration::from_secs(4);
const MAX: Duration = Duration::from_secs(1024);

#[test]
fn quiet_polls_become_rarer_up_to_the_longest_pause() {
    let mut schedule = Schedule::new(MIN, MAX, Duration::ZERO);
    let mut pauses = vec![schedule.due().as_secs()];
    for _ in 0..10 {
        let now = schedule.due();
        schedule.polled(PollOutcome::Quiet, now, 0.0);
        pauses.push((schedule.due() - now).as_secs());
    }
    assert_eq!(pauses, [4, 8, 16, 32, 64, 128, 256, 512, 1024, 1024, 1024]);
}

#[test]
fn the_next_poll_is_soon_after_a_change() {
    let mut schedule = Schedule::new(MIN, MAX, Duration::ZERO);
    for _ in 0..5 {
        schedule.polled(PollOutcome::Quiet, schedule.due(), 0.5);
    }
    let now = schedule.due();
    schedule.polled(PollOutcome::AskSoon, now, 1.0);
    assert_eq!(schedule.due() - now, MIN);
}

#[test]
fn an_urgent_poll_waits_for_the_shortest_pause_only() {
    let mut schedule = Schedule::new(MIN, MAX, Duration::ZERO);
    for _ in 0..5 {
        schedule.polled(PollOutcome::Quiet, schedule.due(), 0.0);
    }
    let last = schedule.due();
    schedule.polled(PollOutcome::Quiet, last, 0.0);
    schedule.hurry();
    assert_eq!(schedule.due(), last + MIN);
    // And the next pauses are short ones again.
    schedule.polled(PollOutcome::Quiet, schedule.due(), 0.0);
    assert_eq!(schedule.due(), last + MIN + 2 * MIN);
}

proptest! {
    #[test]
    fn every_pause_is_within_bounds_whatever_happens(
        min in 1u64..100, max in 1u64..2000, steps in proptest::collection::vec((any::<bool>(), any::<bool>(), any::<f64>()), 0..40),
    ) {
        let (min, max) = (Duration::from_secs(min), Duration::from_secs(max));
        let mut now = Duration::from_secs(7);
        let mut schedule = Schedule::new(min, max, now);
        for (quiet, hurry, chance) in steps {
            let pause = schedule.due() - now;
            prop_assert!(pause >= min && pause <= max.max(min), "{pause:?}");
            if hurry {
                schedule.hurry();
                prop_assert_eq!(schedule.due(), now + min);
            }
            now = schedule.due();
            schedule.polled(if quiet { PollOutcome::Quiet } else { PollOutcome::AskSoon }, now, chance);
        }
    }
}
