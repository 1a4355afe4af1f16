//! What rules of the node translate, by kube-proxy or by whom ever: addresses of services.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::destinations::RulesError;
use super::{iptables, nftables};

/// Destinations that a packet may have before it is routed, and that rules do something with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceRules {
    /// With those of iptables-nft.
    pub nftables: BTreeSet<IpNet>,
    /// Of the legacy iptables.
    pub iptables: BTreeSet<IpNet>,
}

/// How often a reading is tried that a change of the rules has torn.
const ATTEMPTS: u32 = 5;

/// What came of reading the rules.
#[derive(Debug)]
pub struct Reading {
    pub rules: Result<ServiceRules, RulesError>,
    /// What attempts have found that a change of the rules has torn. Each of them stood in the rules at its time.
    pub seen: ServiceRules,
    /// Of the last attempt.
    pub took: Duration,
}

/// What tells for little whether rules have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleMarks {
    nftables: Option<u32>,
    iptables: Vec<iptables::Mark>,
}

impl ServiceRules {
    /// Of the calling thread's namespace. Blocks for some exchanges with the kernel.
    pub fn read() -> Reading {
        Self::read_by(|rules| {
            nftables::translated(&mut rules.nftables)?;
            iptables::translated(&mut rules.iptables)
        })
    }

    fn read_by(mut attempt: impl FnMut(&mut Self) -> Result<(), RulesError>) -> Reading {
        let mut reading =
            Reading { rules: Err(RulesError::Changing), seen: Self::default(), took: Duration::default() };
        for _ in 0..ATTEMPTS {
            let (started, mut rules) = (Instant::now(), Self::default());
            let result = attempt(&mut rules);
            reading.took = started.elapsed();
            match result {
                Err(RulesError::Changing) => reading.seen.extend(rules),
                result => {
                    reading.rules = result.map(|()| rules);
                    break;
                }
            }
        }
        reading
    }

    pub fn extend(&mut self, other: Self) {
        self.nftables.extend(other.nftables);
        self.iptables.extend(other.iptables);
    }

    pub fn destinations(&self) -> impl Iterator<Item = &IpNet> {
        self.nftables.union(&self.iptables)
    }

    /// Those that are one address each. A prefix is a range in which services may be, and hosts and pods as well.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.destinations().filter(|prefix| prefix.prefix_len() == prefix.max_prefix_len()).map(IpNet::addr)
    }
}

impl RuleMarks {
    /// Of the calling thread's namespace.
    pub fn read() -> io::Result<Self> {
        Ok(Self { nftables: nftables::generation()?, iptables: iptables::marks()? })
    }

    /// A change of legacy rules that changes neither their number nor their size leaves the mark as it is.
    pub fn are_certain(&self) -> bool {
        self.iptables.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_torn_attempts_have_seen_is_kept_and_one_whole_attempt_is_the_truth() {
        let prefix = |number: u32| IpNet::from(std::net::IpAddr::from(number.to_be_bytes()));
        for (torn, whole) in [(0, true), (ATTEMPTS - 1, true), (ATTEMPTS, false)] {
            let mut attempts = 0;
            let reading = ServiceRules::read_by(|rules| {
                attempts += 1;
                rules.nftables.insert(prefix(attempts));
                if attempts > torn { Ok(()) } else { Err(RulesError::Changing) }
            });
            assert_eq!(reading.seen.nftables, (1..=torn).map(prefix).collect());
            match reading.rules {
                Ok(rules) => assert_eq!((rules.nftables, whole), (BTreeSet::from([prefix(torn + 1)]), true)),
                Err(error) => assert!(matches!(error, RulesError::Changing) && !whole, "{error}"),
            }
        }
        let reading = ServiceRules::read_by(|_| Err(RulesError::TooMany));
        assert!(matches!(reading.rules, Err(RulesError::TooMany)));
    }
}
