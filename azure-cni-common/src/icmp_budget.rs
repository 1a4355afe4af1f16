//! How many ICMP errors a pod may send: they may leave with the node's address, which all pods share.

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::lifetime::NS_PER_SEC;

/// What a pod has spent of its share, as the time until which that is paid for (the generic cell rate algorithm, ITU-T I.371
/// annex A): a token bucket in one word. Map `ICMP_BUDGETS`: host veth → budget.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
pub struct IcmpBudget(pub u64);

impl IcmpBudget {
    /// Of a pod that has sent nothing.
    pub const UNTOUCHED: Self = Self(0);

    /// Errors that may be sent at once.
    pub const BURST: u64 = 50;

    /// Errors a second.
    pub const RATE: u64 = 100;

    const INTERVAL_NS: u64 = NS_PER_SEC / Self::RATE;

    /// The budget after one more message, unless that is too much.
    pub fn spend(self, now_ns: u64) -> Option<Self> {
        let start = self.0.max(now_ns);
        if start - now_ns > (Self::BURST - 1) * Self::INTERVAL_NS {
            None
        } else {
            Some(Self(start + Self::INTERVAL_NS))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spend_all(budget: &mut IcmpBudget, now_ns: u64) -> u64 {
        let mut sent = 0;
        while let Some(next) = budget.spend(now_ns) {
            *budget = next;
            sent += 1;
        }
        sent
    }

    #[test]
    fn burst_is_spent_and_comes_back_at_the_rate() {
        let mut budget = IcmpBudget::UNTOUCHED;
        let start = 77 * NS_PER_SEC;
        assert_eq!(spend_all(&mut budget, start), IcmpBudget::BURST);
        assert_eq!(spend_all(&mut budget, start + NS_PER_SEC / 10), IcmpBudget::RATE / 10);
        assert_eq!(
            spend_all(&mut budget, start + 60 * NS_PER_SEC),
            IcmpBudget::BURST,
            "no more than a burst is saved up"
        );
    }

    proptest! {
        /// However they are spread: no more in any time than a burst and what the rate adds.
        #[test]
        fn no_more_than_burst_and_rate(gaps in prop::collection::vec(0_u64..100_000_000, 1..500)) {
            let (mut now, mut budget, mut sent) = (NS_PER_SEC, IcmpBudget::UNTOUCHED, 0);
            for gap in &gaps {
                now += gap;
                if let Some(next) = budget.spend(now) {
                    budget = next;
                    sent += 1;
                }
                let passed = now - NS_PER_SEC;
                prop_assert!(sent <= IcmpBudget::BURST + passed / IcmpBudget::INTERVAL_NS);
            }
        }
    }
}
