//! Removes what has expired. The data path checks expiry itself: sweeping gives memory back, it decides nothing.

use std::collections::HashSet;
use std::time::Duration;

use azure_cni_common::conntrack::NS_PER_SEC;
use azure_cni_common::family::Ipv4;
use azure_cni_common::flow::FlowKey;
use azure_cni_common::layout::{NatHolder, NatKey};

use super::{DatapathError, Tables, tables::lock};

/// An entry is swept this long after it expired, so that a packet that is just renewing it does not lose it.
const GRACE_NS: u64 = 5 * NS_PER_SEC;

/// Longer than a program runs.
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// What a sweep saw and did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SweepReport {
    pub flows_left: usize,
    pub removed_flows: usize,
    pub removed_translations: usize,
}

impl Tables {
    /// `now_ns` is CLOCK_MONOTONIC.
    pub fn sweep(&self, now_ns: u64) -> Result<SweepReport, DatapathError> {
        let removed_flows = self.remove_flows(|_, flow| flow.expires_ns.saturating_add(GRACE_NS) < now_ns)?;
        let removed_translations = self.remove_orphans()?;
        Ok(SweepReport { flows_left: self.count_flows()?, removed_flows, removed_translations })
    }

    /// Removes translations whose flow is gone or uses another port by now.
    ///
    /// A translation is made a moment before its flow, so only what is an orphan at two looks is removed.
    fn remove_orphans(&self) -> Result<usize, DatapathError> {
        let suspects: HashSet<NatKey<Ipv4>> = lock(&self.translations)
            .iter()
            .filter_map(Result::ok)
            .filter(|(key, holder)| self.is_orphan(key, holder))
            .map(|(key, _)| key)
            .collect();
        if suspects.is_empty() {
            return Ok(0);
        }
        std::thread::sleep(BETWEEN_LOOKS);
        self.remove_translations(|key, holder| suspects.contains(key) && self.is_orphan(key, holder))
    }

    fn is_orphan(&self, key: &NatKey<Ipv4>, holder: &NatHolder<Ipv4>) -> bool {
        let (flow_key, opener) = FlowKey::of(&holder.opening_tuple(key));
        let flow = lock(&self.flows).get(&flow_key, 0);
        !flow.is_ok_and(|flow| flow.opener == opener && flow.holds_port(key.node_port))
    }
}
