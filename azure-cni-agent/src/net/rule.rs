//! Routing policy rules: packets from an address are routed by a table of their own.

use std::net::IpAddr;

use ipnet::IpNet;
use rtnetlink::IpVersion;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::RouteProtocol;
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};

use super::error::NetError;
use super::netlink::Netlink;

/// Before the main table's rule, 32766, and after the local table's, 0 (net/ipv4/fib_rules.c, fib_default_rules_init).
const PRIORITY: u32 = 30_000;

/// Packets from `source` ask `table` for their route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleEntry {
    pub source: IpAddr,
    pub table: u32,
}

impl RuleEntry {
    fn to_message(self) -> RuleMessage {
        let mut message = RuleMessage::default();
        message.header.family = if self.source.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        message.header.src_len = IpNet::from(self.source).prefix_len();
        message.header.action = RuleAction::ToTable;
        message.attributes = vec![
            RuleAttribute::Source(self.source),
            RuleAttribute::Table(self.table),
            RuleAttribute::Priority(PRIORITY),
            RuleAttribute::Protocol(RouteProtocol::Static),
        ];
        message
    }

    /// `None` if it is not a rule of this kind, for a single address.
    fn from_message(message: &RuleMessage) -> Option<Self> {
        let attribute = |wanted: fn(&RuleAttribute) -> Option<IpAddr>| message.attributes.iter().find_map(wanted);
        let source = attribute(|attribute| match attribute {
            RuleAttribute::Source(source) => Some(*source),
            _ => None,
        })?;
        let table = message.attributes.iter().find_map(|attribute| match attribute {
            RuleAttribute::Table(table) => Some(*table),
            _ => None,
        })?;
        let is_single = message.header.src_len == IpNet::from(source).prefix_len();
        (is_single && message.header.action == RuleAction::ToTable).then_some(Self { source, table })
    }
}

impl Netlink {
    /// Succeeds if the rule is there already.
    pub async fn add_rule(&self, rule: RuleEntry) -> Result<(), NetError> {
        let mut request = self.handle.rule().add();
        *request.message_mut() = rule.to_message();
        match NetError::of(format!("rule for packets from {}", rule.source), request.execute().await) {
            Err(error) if error.exists() => Ok(()),
            other => other,
        }
    }

    /// Succeeds if there is none.
    pub async fn remove_rule(&self, rule: RuleEntry) -> Result<(), NetError> {
        let removed = self.handle.rule().del(rule.to_message()).execute().await;
        match NetError::of(format!("removing the rule for packets from {}", rule.source), removed) {
            Err(error) if error.is_absent() => Ok(()),
            other => other,
        }
    }

    /// The rules of the namespace for single addresses, of both families.
    pub async fn rules(&self) -> Result<Vec<RuleEntry>, NetError> {
        let mut rules = Vec::new();
        for (version, family) in [(IpVersion::V4, AddressFamily::Inet), (IpVersion::V6, AddressFamily::Inet6)] {
            let all = self.dump(
                || self.handle.rule().get(version).execute(),
                |message| {
                    if message.header.family == family {
                        rules.extend(RuleEntry::from_message(message));
                    }
                },
            );
            all.await.map_err(|error| NetError::new("listing routing rules", error))?;
        }
        Ok(rules)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_of_either_family_reads_back_as_written() {
        for source in ["10.240.0.5", "fd00::5"] {
            let rule = RuleEntry { source: source.parse().unwrap(), table: 0x4000_0001 };
            assert_eq!(RuleEntry::from_message(&rule.to_message()), Some(rule));
            let mut of_a_prefix = rule.to_message();
            of_a_prefix.header.src_len = 24;
            assert_eq!(RuleEntry::from_message(&of_a_prefix), None);
        }
    }
}
