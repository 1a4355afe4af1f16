//! What is known of the addresses of services: what rules of the node do something with.

use crate::net::{RulesError, ServiceRules};

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

    /// What an operator should know, in a sentence.
    pub fn problem(&self) -> Option<String> {
        let Self::Unknown(why) = self else { return None };
        Some(format!(
            "the addresses of services are not known, since the node's rules cannot be read: {why}. All that pods send takes the \
             host's stack meanwhile, which is right and slower"
        ))
    }
}
