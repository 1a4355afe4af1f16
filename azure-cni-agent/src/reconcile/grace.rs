//! How long an attachment has to be gone before it is released.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use azure_cni_api::cni::AttachmentId;

#[derive(Debug)]
pub struct Grace {
    length: Duration,
    /// When each was first found gone.
    since: BTreeMap<AttachmentId, Duration>,
}

impl Grace {
    pub fn new(length: Duration) -> Self {
        Self { length, since: BTreeMap::new() }
    }

    /// The attachments that were gone in every round for long enough. The time of one that came back starts again.
    pub fn over(&mut self, gone: &BTreeSet<AttachmentId>, now: Duration) -> BTreeSet<AttachmentId> {
        self.since.retain(|id, _| gone.contains(id));
        for id in gone {
            self.since.entry(id.clone()).or_insert(now);
        }
        let over = |since: &Duration| now.saturating_sub(*since) >= self.length;
        self.since.iter().filter(|(_, since)| over(since)).map(|(id, _)| id.clone()).collect()
    }
}
