//! What is known of the addresses of services: what rules of the node do something with.

use crate::net::{MAX_DESTINATIONS, RulesError, ServiceRules};

/// The rules are the truth about this node. The cluster's API would say what should be, see docs/adr/0015.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Services {
    Known(ServiceRules),
    /// Why: the rules could not be read. Any destination may be a service then.
    Unknown(String),
}

impl Services {
    pub fn of(read: Result<ServiceRules, RulesError>) -> Self {
        read.map_or_else(|error| Self::Unknown(error.to_string()), Self::Known)
    }

    /// With what else is seen in the rules. If they are not known, any destination is one already.
    pub fn with(mut self, seen: ServiceRules) -> Self {
        if let Self::Known(rules) = &mut self {
            rules.extend(seen);
            if rules.destinations().count() > MAX_DESTINATIONS {
                return Self::of(Err(RulesError::TooMany));
            }
        }
        self
    }

    /// What an operator should know, in a sentence.
    pub fn problem(&self) -> Option<String> {
        let Self::Unknown(why) = self else { return None };
        Some(format!(
            "the addresses of services are not known, since the node's rules cannot be read: {why}. All that pods send takes the \
             host's stack meanwhile, which is right and slower"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_seen_is_added_within_the_bound() {
        let rules = |hosts: std::ops::Range<u32>| ServiceRules {
            nftables: hosts.map(|host| std::net::IpAddr::from(host.to_be_bytes()).into()).collect(),
            ..ServiceRules::default()
        };
        let known = |hosts| Services::Known(rules(hosts));
        assert_eq!(known(0..2).with(rules(1..4)), known(0..4));
        assert!(matches!(known(0..2).with(rules(2..MAX_DESTINATIONS as u32 + 1)), Services::Unknown(_)));
        let unknown = Services::Unknown("why".to_owned());
        assert_eq!(unknown.clone().with(rules(0..1)), unknown);
    }
}
