//! What the data path does for a pod that it does not do for all.

use azure_cni_api::{Bandwidth, RateLimit};
use azure_cni_common::bandwidth::{Limit, Limits};

use crate::state::AttachmentRecord;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PodOptions {
    /// The network opts out of source NAT.
    pub keep_source: bool,
    pub bandwidth: Bandwidth,
}

impl PodOptions {
    pub fn of_record(record: &AttachmentRecord) -> Self {
        Self { keep_source: record.keep_source, bandwidth: record.bandwidth }
    }

    /// The limits as the programs know them.
    pub fn limits(&self) -> Limits {
        let limit =
            |limit: Option<RateLimit>| limit.map_or(Limit::NONE, |RateLimit { rate, burst }| Limit::new(rate, burst));
        Limits { ingress: limit(self.bandwidth.ingress), egress: limit(self.bandwidth.egress) }
    }

    /// What was requested, by the limits that the programs know. A burst that nobody has chosen is one by now.
    pub fn bandwidth_of(limits: &Limits) -> Bandwidth {
        let requested = |limit: Limit| {
            (!limit.is_none()).then_some(RateLimit { rate: limit.rate_bits, burst: Some(limit.burst_bits) })
        };
        Bandwidth { ingress: requested(limits.ingress), egress: requested(limits.egress) }
    }
}

#[cfg(test)]
mod tests {
    use azure_cni_common::bandwidth::{BURST_MIN, RATE_MAX, RATE_MIN};

    use super::*;

    fn limited(ingress: Option<RateLimit>, egress: Option<RateLimit>) -> PodOptions {
        PodOptions { keep_source: false, bandwidth: Bandwidth { ingress, egress } }
    }

    #[test]
    fn programs_and_calls_agree_on_what_a_limit_can_be() {
        assert_eq!((RateLimit::RATE_MIN, RateLimit::RATE_MAX, RateLimit::BURST_MIN), (RATE_MIN, RATE_MAX, BURST_MIN));
    }

    #[test]
    fn limits_of_the_programs_say_what_was_requested() {
        let one = RateLimit { rate: 10_000_000, burst: Some(1_000_000) };
        let other = RateLimit { rate: 5_000, burst: None };
        for options in
            [limited(None, None), limited(Some(one), None), limited(None, Some(other)), limited(Some(other), Some(one))]
        {
            let limits = options.limits();
            let recovered = PodOptions { bandwidth: PodOptions::bandwidth_of(&limits), ..options };
            assert!(recovered.limits().limits_like(&limits), "{options:?}");
            assert_eq!(recovered.bandwidth.is_limited(), options.bandwidth.is_limited());
        }
        let limits = limited(Some(one), Some(other)).limits();
        assert_eq!((limits.ingress.rate_bits, limits.egress.rate_bits), (10_000_000, 5_000));
    }
}
