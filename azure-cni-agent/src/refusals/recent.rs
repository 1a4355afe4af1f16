//! The last refusals, equal ones as one entry with a count. Bounded: the entry that has not recurred for longest makes room.

use std::collections::HashMap;

use super::refusal::Refusal;

const MAX_ENTRIES: usize = 1000;

/// When a refusal has occurred, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Occurrences {
    /// Milliseconds since 1970.
    pub first_unix_ms: u64,
    pub last_unix_ms: u64,
    pub count: u64,
    /// Orders the entries, even if the clock is set back.
    sequence: u64,
}

#[derive(Default)]
pub struct Recent {
    entries: HashMap<Refusal, Occurrences>,
    sequence: u64,
}

impl Recent {
    pub(super) fn add(&mut self, refusal: Refusal, count: u64, unix_ms: u64) {
        self.sequence += 1;
        let sequence = self.sequence;
        if let Some(entry) = self.entries.get_mut(&refusal) {
            *entry = Occurrences { last_unix_ms: unix_ms, count: entry.count + count, sequence, ..*entry };
            return;
        }
        if self.entries.len() >= MAX_ENTRIES {
            let oldest =
                self.entries.iter().min_by_key(|(_, entry)| entry.sequence).map(|(refusal, _)| refusal.clone());
            oldest.map(|oldest| self.entries.remove(&oldest));
        }
        self.entries.insert(refusal, Occurrences { first_unix_ms: unix_ms, last_unix_ms: unix_ms, count, sequence });
    }

    /// The oldest first.
    pub(super) fn list(&self) -> Vec<(Refusal, Occurrences)> {
        let mut list: Vec<_> = self.entries.iter().map(|(refusal, entry)| (refusal.clone(), *entry)).collect();
        list.sort_by_key(|(_, entry)| entry.sequence);
        list
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use azure_cni_common::drop_reason::DropReason;

    use super::*;

    fn refusal(destination: u32) -> Refusal {
        Refusal {
            pod: None,
            source: Ipv4Addr::new(10, 240, 0, 5).into(),
            destination: Ipv4Addr::from_bits(destination).into(),
            destination_port: 443,
            protocol: 6,
            reason: DropReason::NatPortsExhausted,
        }
    }

    #[test]
    fn equal_refusals_are_one_with_its_count_and_times_and_the_latest_is_last() {
        let mut recent = Recent::default();
        for (destination, unix_ms) in [(1, 100), (2, 200), (1, 300), (3, 400), (1, 500)] {
            recent.add(refusal(destination), destination.into(), unix_ms);
        }
        let list: Vec<_> = recent
            .list()
            .into_iter()
            .map(|(refusal, seen)| (refusal.destination, seen.first_unix_ms, seen.last_unix_ms, seen.count))
            .collect();
        let address = |bits| Ipv4Addr::from_bits(bits).into();
        assert_eq!(list, [(address(2), 200, 200, 2), (address(3), 400, 400, 3), (address(1), 100, 500, 3)]);
    }

    #[test]
    fn the_refusal_that_has_not_recurred_for_longest_makes_room() {
        let mut recent = Recent::default();
        (0..MAX_ENTRIES as u32).for_each(|n| recent.add(refusal(n), 1, 0));
        recent.add(refusal(0), 1, 0);
        recent.add(refusal(u32::MAX), 1, 0);
        let list = recent.list();
        assert_eq!(list.len(), MAX_ENTRIES);
        let has = |n| list.iter().any(|(seen, _)| *seen == refusal(n));
        assert_eq!((has(0), has(1), has(2), has(u32::MAX)), (true, false, true, true));
    }
}
