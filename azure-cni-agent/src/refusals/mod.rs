//! Flows that the data path refused, with the pod's name: in the log, with a limit on their rate, and in memory for the
//! operator's command.

mod limit;
mod recent;
mod refusal;

use std::time::Duration;

use limit::RateLimit;
pub use recent::{Occurrences, Recent};
pub use refusal::Refusal;

/// The refusals of the last time.
#[derive(Default)]
pub struct Refusals {
    recent: Recent,
    limit: RateLimit,
}

impl Refusals {
    /// Remembers as many refusals of a kind, and logs one unless the rate limit forbids it. `now` is the time since any fixed point, `unix_ms`
    /// the time of day.
    pub fn add(&mut self, refusal: Refusal, count: u64, now: Duration, unix_ms: u64) {
        if let Some(suppressed) = self.limit.admit(&refusal, count, now) {
            tracing::warn!(
                pod = refusal.pod.as_ref().map(tracing::field::display),
                source = %refusal.source,
                destination = %refusal.destination,
                port = refusal.destination_port,
                protocol = refusal.protocol,
                reason = refusal.reason.name(),
                suppressed,
                "refused a flow"
            );
        }
        self.recent.add(refusal, count, unix_ms);
    }

    /// The oldest first.
    pub fn recent(&self) -> Vec<(Refusal, Occurrences)> {
        self.recent.list()
    }
}
