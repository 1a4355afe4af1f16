//! How often, and after which pause, a request is tried again after a transient failure.

use std::time::Duration;

/// Including the first one.
pub const ATTEMPTS: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// The pause after attempt number `attempt` (from 1) has failed. `chance`, 0 to 1, decides half of the pause, so that clients
/// that failed at the same time do not retry at the same time.
pub fn pause(attempt: u32, chance: f64) -> Duration {
    let whole = FIRST_PAUSE.saturating_mul(1 << attempt.saturating_sub(1).min(8));
    whole.mul_f64(0.5 + 0.5 * chance.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_half_of_each_is_chance() {
        let whole: Vec<_> = (1..=3).map(|attempt| pause(attempt, 1.0).as_millis()).collect();
        assert_eq!(whole, [200, 400, 800]);
        assert_eq!(pause(1, 0.0).as_millis(), 100);
        assert_eq!(pause(u32::MAX, 1.0), pause(9, 1.0), "bounded");
    }
}
