//! When to ask the pool's source next: soon after a change or an error, and less and less often while nothing changes.
//!
//! The time is an argument: the time since any fixed point, the same for all calls. So is chance, from 0 to 1.

#[cfg(test)]
mod tests;

use std::time::Duration;

/// The outcome of asking the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PollOutcome {
    /// Its list is the same as before.
    Quiet,
    /// Its list has changed, cannot be used, or leaves pods without an address.
    AskSoon,
}

/// A pause is shortened by at most this fraction, so that VMs that start together do not ask together for ever.
const JITTER: f64 = 0.2;

#[derive(Debug, Clone)]
pub struct Schedule {
    min: Duration,
    max: Duration,
    pause: Duration,
    /// The end of the last poll.
    polled: Duration,
    due: Duration,
}

impl Schedule {
    /// The first poll is due `min` from now. `max` below `min` counts as `min`.
    pub fn new(min: Duration, max: Duration, now: Duration) -> Self {
        Self { min, max: max.max(min), pause: min, polled: now, due: now.saturating_add(min) }
    }

    /// When the next poll is due.
    pub fn due(&self) -> Duration {
        self.due
    }

    /// A poll has ended. `chance` is 0 to 1.
    pub fn polled(&mut self, outcome: PollOutcome, now: Duration, chance: f64) {
        self.pause = match outcome {
            PollOutcome::AskSoon => self.min,
            PollOutcome::Quiet => self.pause.saturating_mul(2).clamp(self.min, self.max),
        };
        self.polled = now;
        let shortened = self.pause.mul_f64(1.0 - JITTER * chance.clamp(0.0, 1.0)).max(self.min);
        self.due = now.saturating_add(shortened);
    }

    /// Asks as soon as possible. Polls are still at least the shortest pause apart.
    pub fn hurry(&mut self) {
        self.pause = self.min;
        self.due = self.due.min(self.polled.saturating_add(self.min));
    }
}
