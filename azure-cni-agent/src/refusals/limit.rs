//! The rate limit of the log: one line for a pod, destination and reason in ten seconds, with the number of refusals that
//! were left out.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use azure_cni_common::drop_reason::DropReason;

use super::refusal::Refusal;

const INTERVAL: Duration = Duration::from_secs(10);

/// A pod that scans a network must not make the agent's memory, or its log, grow with each address.
const MAX_KEYS: usize = 1024;

type Key = (IpAddr, IpAddr, DropReason);

#[derive(Default)]
pub(super) struct RateLimit {
    logged: HashMap<Key, Logged>,
    /// Refusals left out whose keys had no room.
    suppressed_elsewhere: u64,
}

struct Logged {
    at: Duration,
    suppressed: u64,
}

impl RateLimit {
    /// `count` refusals of a kind. `Some` if the caller should log one, with the number of those left out since the last line
    /// for this key.
    pub(super) fn admit(&mut self, refusal: &Refusal, count: u64, now: Duration) -> Option<u64> {
        let key = (refusal.source, refusal.destination, refusal.reason);
        if let Some(logged) = self.logged.get_mut(&key) {
            if now.saturating_sub(logged.at) < INTERVAL {
                logged.suppressed += count;
                return None;
            }
            logged.at = now;
            return Some(std::mem::take(&mut logged.suppressed) + count.saturating_sub(1));
        }
        if self.logged.len() >= MAX_KEYS {
            let suppressed = &mut self.suppressed_elsewhere;
            self.logged.retain(|_, logged| {
                let is_young = now.saturating_sub(logged.at) < INTERVAL;
                *suppressed += if is_young { 0 } else { logged.suppressed };
                is_young
            });
            if self.logged.len() >= MAX_KEYS {
                self.suppressed_elsewhere += count;
                return None;
            }
        }
        self.logged.insert(key, Logged { at: now, suppressed: 0 });
        Some(std::mem::take(&mut self.suppressed_elsewhere) + count.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    fn refusal(source: u8, destination: u32, reason: DropReason) -> Refusal {
        Refusal {
            pod: None,
            source: Ipv4Addr::new(10, 240, 0, source).into(),
            destination: Ipv4Addr::from_bits(destination).into(),
            destination_port: 443,
            protocol: 6,
            reason,
        }
    }

    const FULL: DropReason = DropReason::FlowTableFull;
    const PORTS: DropReason = DropReason::NatPortsExhausted;

    #[test]
    fn one_line_in_ten_seconds_per_pod_destination_and_reason_says_how_many_were_left_out() {
        let mut limit = RateLimit::default();
        let mut at = |ms, source, destination, reason| {
            limit.admit(&refusal(source, destination, reason), 1, Duration::from_millis(ms))
        };
        assert_eq!(at(0, 5, 1, FULL), Some(0));
        assert_eq!(at(1, 5, 1, FULL), None);
        assert_eq!(at(2, 5, 1, PORTS), Some(0));
        assert_eq!(at(3, 5, 2, FULL), Some(0));
        assert_eq!(at(4, 6, 1, FULL), Some(0));
        assert_eq!(at(9_999, 5, 1, FULL), None);
        assert_eq!(at(10_000, 5, 1, FULL), Some(2));
        assert_eq!(at(10_001, 5, 1, FULL), None);
        assert_eq!(at(60_000, 5, 1, FULL), Some(1));
        assert_eq!(at(60_001, 5, 1, PORTS), Some(0));
    }

    #[test]
    fn a_scan_of_many_destinations_takes_bounded_memory_and_every_refusal_is_counted() {
        let mut limit = RateLimit::default();
        let logged = (0..5000).filter(|n| limit.admit(&refusal(5, *n, FULL), 1, Duration::ZERO).is_some()).count();
        assert_eq!((logged, limit.logged.len()), (MAX_KEYS, MAX_KEYS));
        assert_eq!(limit.admit(&refusal(5, 9999, FULL), 1, INTERVAL), Some(5000 - MAX_KEYS as u64));
        assert_eq!(limit.logged.len(), 1);
    }

    proptest! {
        #[test]
        fn every_refusal_is_logged_or_counted_as_suppressed(
            steps in proptest::collection::vec((0u8..3, 0u32..4, 1u64..4, 0u64..6_000), 1..200)
        ) {
            let mut limit = RateLimit::default();
            let (mut now, mut reported) = (0, 0);
            for (source, destination, count, pause) in &steps {
                now += pause;
                let refusal = refusal(*source, *destination, FULL);
                if let Some(suppressed) = limit.admit(&refusal, *count, Duration::from_millis(now)) {
                    reported += 1 + suppressed;
                }
            }
            let waiting: u64 = limit.logged.values().map(|logged| logged.suppressed).sum();
            prop_assert_eq!(reported + waiting, steps.iter().map(|(_, _, count, _)| count).sum::<u64>());
        }
    }
}
