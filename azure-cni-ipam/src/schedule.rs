//! When to try again: soon after something has happened, and after longer and longer pauses while nothing happens.
//!
//! Time is an argument: the time since any fixed point, the same for all calls. So is chance, as a fraction of one.

#[cfg(test)]
mod tests;

use std::time::Duration;

/// How soon the next attempt should come, by the result of the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextAttempt {
    /// Nothing has changed and nothing is missing: after twice the last pause.
    Later,
    /// Something has changed, has failed, or is missing: after the shortest pause.
    Soon,
}

/// Chance shortens a pause by at most this part of it, so that VMs that start together do not stay in step.
const JITTER: f64 = 0.2;

#[derive(Debug, Clone)]
pub struct Schedule {
    min: Duration,
    max: Duration,
    pause: Duration,
    /// The end of the last attempt.
    attempted: Duration,
    due: Duration,
}

impl Schedule {
    /// The first attempt is due `min` from now. `max` below `min` counts as `min`.
    pub fn new(min: Duration, max: Duration, now: Duration) -> Self {
        Self { min, max: max.max(min), pause: min, attempted: now, due: now.saturating_add(min) }
    }

    /// When the next attempt is due.
    pub fn due(&self) -> Duration {
        self.due
    }

    /// An attempt has ended. `chance` is 0 to 1.
    pub fn attempted(&mut self, next: NextAttempt, now: Duration, chance: f64) {
        self.pause = match next {
            NextAttempt::Soon => self.min,
            NextAttempt::Later => self.pause.saturating_mul(2).clamp(self.min, self.max),
        };
        self.attempted = now;
        let shortened = self.pause.mul_f64(1.0 - JITTER * chance.clamp(0.0, 1.0)).max(self.min);
        self.due = now.saturating_add(shortened);
    }

    /// Makes the next attempt come soon. Two attempts are never closer than the shortest pause.
    pub fn hurry(&mut self) {
        self.pause = self.min;
        self.due = self.due.min(self.attempted.saturating_add(self.min));
    }
}
