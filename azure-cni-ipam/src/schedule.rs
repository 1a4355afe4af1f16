//! When to ask the source of the pool next: soon after something has happened, ever more rarely while nothing does.
//!
//! The time is an argument: the time since any fixed point, the same for all calls. So is chance, as a fraction of one.

#[cfg(test)]
mod tests;

use std::time::Duration;

/// What a look at the source has led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looked {
    /// It says the same as before.
    Quiet,
    /// It lists other addresses, cannot be used, or leaves pods without an address.
    Restless,
}

/// At most this part of a pause is left out by chance, so that VMs that start together do not go on asking together.
const JITTER: f64 = 0.2;

#[derive(Debug, Clone)]
pub struct Schedule {
    min: Duration,
    max: Duration,
    pause: Duration,
    /// The end of the last look.
    looked: Duration,
    due: Duration,
}

impl Schedule {
    /// The first look is due `min` from now. `max` below `min` counts as `min`.
    pub fn new(min: Duration, max: Duration, now: Duration) -> Self {
        Self { min, max: max.max(min), pause: min, looked: now, due: now.saturating_add(min) }
    }

    /// When the next look is due.
    pub fn due(&self) -> Duration {
        self.due
    }

    /// A look has ended. `chance` is 0 to 1.
    pub fn looked(&mut self, outcome: Looked, now: Duration, chance: f64) {
        self.pause = match outcome {
            Looked::Restless => self.min,
            Looked::Quiet => self.pause.saturating_mul(2).clamp(self.min, self.max),
        };
        self.looked = now;
        let shortened = self.pause.mul_f64(1.0 - JITTER * chance.clamp(0.0, 1.0)).max(self.min);
        self.due = now.saturating_add(shortened);
    }

    /// Somebody needs to know now. Still, no two looks are closer than the least pause.
    pub fn hurry(&mut self) {
        self.pause = self.min;
        self.due = self.due.min(self.looked.saturating_add(self.min));
    }
}
