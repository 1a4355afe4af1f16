//! Flows that the data path refused, told with the pod's name: to the log, not too often, and to whoever asks later.

mod follow;
mod limit;
mod recent;

use std::net::IpAddr;
use std::time::Duration;

use azure_cni_api::cni::AttachmentId;
use azure_cni_common::drop_reason::DropReason;
pub use follow::follow_events;
use limit::RateLimit;
pub use recent::{Recent, Seen};

/// A refused flow.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Refusal {
    /// `None`: no attachment has the source's address (any more).
    pub pod: Option<AttachmentId>,
    pub source: IpAddr,
    pub destination: IpAddr,
    /// Zero where the protocol has none.
    pub destination_port: u16,
    pub protocol: u8,
    pub reason: DropReason,
}

/// What is remembered of refusals.
#[derive(Default)]
pub struct Refusals {
    recent: Recent,
    limit: RateLimit,
}

impl Refusals {
    /// Remembers one, and logs it if one like it was not logged a moment ago. `now` is the time since any fixed point,
    /// `unix_ms` the time of day.
    pub fn take(&mut self, refusal: Refusal, now: Duration, unix_ms: u64) {
        if let Some(suppressed) = self.limit.admit(&refusal, now) {
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
        self.recent.add(refusal, unix_ms);
    }

    /// The oldest first.
    pub fn recent(&self) -> Vec<(Refusal, Seen)> {
        self.recent.list()
    }
}
