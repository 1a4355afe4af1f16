//! What netfilter of this node does with pods' packets, read without changing anything.
//!
//! The rule: a legacy table is made by the kernel when it is asked for, so only those are asked for that are there.

mod destinations;
mod policy;
mod prefixes;
mod xtables;

mod iptables;
mod nfnetlink;
mod nftables;

mod forward_policy;
mod rule_changes;
mod service_rules;
mod traffic_policy;

mod hindrances;

pub use destinations::{MAX_DESTINATIONS, RulesError};
pub use hindrances::Hindrances;
pub use rule_changes::RuleChanges;
pub use service_rules::{Reading as RuleReading, RuleMarks, ServiceRules};
