//! Which destinations a set of rules does something with: a walk over the chains that a packet of a pod meets before it is routed.
//!
//! The rule: a destination too many makes its packets slower, one too few makes a service hang. So a match is read as wide as
//! it may be, and rules that nobody can read are an error.

use std::collections::{BTreeSet, HashSet};
use std::hash::Hash;
use std::io;

use ipnet::IpNet;

/// No node has more services than this; the route table has twice the room.
pub const MAX_DESTINATIONS: usize = 32_768;

/// Why it is not known which destinations rules do something with. A retry helps once the rules are others.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    #[error(transparent)]
    Unreadable(io::Error),
    /// A retry helps at once, or later.
    #[error("they change while they are read")]
    Changing,
    #[error("they translate more than {MAX_DESTINATIONS} destinations")]
    TooMany,
    #[error("a rule matches destinations by {0}, which is not understood")]
    NotUnderstood(String),
}

impl From<io::Error> for RulesError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::Interrupted { Self::Changing } else { Self::Unreadable(error) }
    }
}

/// What a rule asks of a packet's destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Nothing, or that it is *not* something.
    Any,
    OneOf(Vec<IpNet>),
    /// By means that the reader does not know.
    NotUnderstood(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule<Chain> {
    pub destination: Destination,
    /// It translates, redirects or drops. To look, count, mark or return is not to act.
    pub acts: bool,
    /// Where it may lead to.
    pub chains: Vec<Chain>,
}

/// Rules by chain.
pub trait Ruleset {
    type Chain: Clone + Eq + Hash;

    fn rules(&mut self, chain: &Self::Chain) -> Result<Vec<Rule<Self::Chain>>, RulesError>;
}

/// Finds the destinations that the rules of these chains, and of those that they lead to, do something with. Those found before an error
/// are among them.
pub fn destinations<R: Ruleset>(
    ruleset: &mut R,
    roots: Vec<R::Chain>,
    found: &mut BTreeSet<IpNet>,
) -> Result<(), RulesError> {
    let mut walk = Walk { ruleset, idle: HashSet::new() };
    let (mut seen, mut next) = (HashSet::new(), roots);
    while let Some(chain) = next.pop() {
        if !seen.insert(chain.clone()) {
            continue;
        }
        for rule in walk.ruleset.rules(&chain)? {
            match rule.destination {
                // Every destination, and so none that would need a way of its own.
                Destination::Any => next.extend(rule.chains),
                Destination::OneOf(prefixes) => {
                    let is_single = |prefix: &IpNet| prefix.prefix_len() == prefix.max_prefix_len();
                    // To read where each of a cluster's services leads would take long, and changes nothing.
                    let is_plain = !rule.chains.is_empty() && prefixes.iter().all(is_single);
                    // Every destination, whatever else is listed.
                    if prefixes.iter().any(|prefix| prefix.prefix_len() == 0) {
                        next.extend(rule.chains.iter().cloned());
                    }
                    if rule.acts || is_plain || walk.leads_to_action(&rule.chains)? {
                        found.extend(prefixes.into_iter().filter(|prefix| prefix.prefix_len() > 0));
                    }
                }
                Destination::NotUnderstood(by) => {
                    if rule.acts || walk.leads_to_action(&rule.chains)? {
                        return Err(RulesError::NotUnderstood(by));
                    }
                }
            }
            if found.len() > MAX_DESTINATIONS {
                return Err(RulesError::TooMany);
            }
        }
    }
    Ok(())
}

struct Walk<'a, R: Ruleset> {
    ruleset: &'a mut R,
    /// Chains that lead to no action.
    idle: HashSet<R::Chain>,
}

impl<R: Ruleset> Walk<'_, R> {
    /// Whether a rule of one of these chains, or of one that they lead to, acts.
    fn leads_to_action(&mut self, chains: &[R::Chain]) -> Result<bool, RulesError> {
        let mut next = chains.to_vec();
        let mut passed = HashSet::new();
        while let Some(chain) = next.pop() {
            if self.idle.contains(&chain) || !passed.insert(chain.clone()) {
                continue;
            }
            for rule in self.ruleset.rules(&chain)? {
                if rule.acts {
                    return Ok(true);
                }
                next.extend(rule.chains);
            }
        }
        self.idle.extend(passed);
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    struct Sample(HashMap<&'static str, Vec<Rule<&'static str>>>);

    impl Ruleset for Sample {
        type Chain = &'static str;

        fn rules(&mut self, chain: &&'static str) -> Result<Vec<Rule<&'static str>>, RulesError> {
            Ok(self.0.get(chain).cloned().unwrap_or_default())
        }
    }

    fn one_of(prefixes: &[&str]) -> Destination {
        Destination::OneOf(prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect())
    }

    fn rule(destination: Destination, acts: bool, chains: &[&'static str]) -> Rule<&'static str> {
        Rule { destination, acts, chains: chains.to_vec() }
    }

    fn found(rules: &[(&'static str, Rule<&'static str>)]) -> Result<Vec<String>, String> {
        let mut chains: HashMap<_, Vec<_>> = HashMap::new();
        rules.iter().for_each(|(chain, rule)| chains.entry(*chain).or_default().push(rule.clone()));
        let mut found = BTreeSet::new();
        destinations(&mut Sample(chains), vec!["pre"], &mut found).map_err(|error| error.to_string())?;
        Ok(found.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn destinations_of_rules_that_act_are_found_wherever_a_packet_may_come_to_them() {
        let any = || Destination::Any;
        let found = found(&[
            ("pre", rule(any(), false, &["services"])),
            ("pre", rule(one_of(&["10.9.0.0/16"]), true, &[])),
            ("services", rule(one_of(&["10.0.0.1/32"]), false, &["svc"])),
            // To return is not to act, nor is to mark.
            ("services", rule(one_of(&["10.0.0.2/32"]), false, &[])),
            ("services", rule(one_of(&["10.8.0.0/16"]), false, &["mark"])),
            ("services", rule(one_of(&["10.7.0.0/16"]), false, &["svc"])),
            ("services", rule(any(), true, &[])),
            ("services", rule(one_of(&["0.0.0.0/0"]), true, &[])),
            ("services", rule(one_of(&["0.0.0.0/0", "10.5.5.5/32"]), false, &["everything"])),
            ("everything", rule(one_of(&["10.4.4.4/32"]), true, &[])),
            // A circle, which the kernel refuses.
            ("services", rule(any(), false, &["pre", "services"])),
            ("svc", rule(any(), false, &["mark", "endpoint"])),
            ("endpoint", rule(any(), true, &[])),
            ("endpoint", rule(one_of(&["10.6.6.6/32"]), true, &[])),
            ("mark", rule(any(), false, &["mark"])),
        ]);
        assert_eq!(found.unwrap(), ["10.0.0.1/32", "10.4.4.4/32", "10.5.5.5/32", "10.7.0.0/16", "10.9.0.0/16"]);
    }

    #[test]
    fn what_is_not_understood_matters_only_if_it_leads_to_action() {
        let set = || Destination::NotUnderstood("set".to_owned());
        let mark = ("mark", rule(Destination::Any, false, &[]));
        assert_eq!(found(&[("pre", rule(set(), false, &["mark"])), mark.clone()]), Ok(vec![]));
        let error =
            found(&[("pre", rule(set(), false, &["mark", "svc"])), mark, ("svc", rule(one_of(&[]), true, &[]))]);
        assert!(error.unwrap_err().contains("by set"));
    }

    #[test]
    fn there_is_a_bound() {
        let many =
            |count: u32| (0..count).map(|host| IpNet::from(std::net::IpAddr::from(host.to_be_bytes()))).collect();
        let rules = |count| vec![("pre", rule(Destination::OneOf(many(count)), true, &[]))];
        assert_eq!(found(&rules(MAX_DESTINATIONS as u32)).unwrap().len(), MAX_DESTINATIONS);
        assert!(found(&rules(MAX_DESTINATIONS as u32 + 1)).unwrap_err().contains("more than 32768"));
    }
}
