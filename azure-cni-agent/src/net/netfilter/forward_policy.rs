//! Whether netfilter drops what the host's stack forwards, unless a rule accepts it: base chains of nftables, where iptables-nft has its
//! own too, and the tables of the legacy iptables.

use std::io;

use super::policy::Dropping;
use super::{iptables, nftables};

/// The chains and tables that drop what no rule accepts, and whether a rule names pods' interfaces.
#[derive(Debug, Default)]
pub struct ForwardPolicies {
    dropping: Vec<Dropping>,
}

impl ForwardPolicies {
    /// Of the calling thread's namespace. Blocks for some exchanges with the kernel.
    pub fn read() -> io::Result<Self> {
        let mut dropping = nftables::dropping_chains()?;
        dropping.extend(iptables::dropping_tables()?);
        Ok(Self { dropping })
    }

    /// One sentence for each policy that may cut off services.
    pub fn problems(&self, dual_stack: bool) -> Vec<String> {
        let concerns_pods = |found: &&Dropping| !found.names_pods && (found.ipv4 || (found.ipv6 && dual_stack));
        self.dropping.iter().filter(concerns_pods).map(problem).collect()
    }
}

fn problem(found: &Dropping) -> String {
    let iptables = if found.ipv4 { "iptables" } else { "ip6tables" };
    format!(
        "the policy of {} is drop: what pods send to services passes the host's stack, and is dropped unless a rule accepts it: \
         {iptables} -I FORWARD -i azv+ -j ACCEPT and {iptables} -I FORWARD -o azv+ -j ACCEPT",
        found.chain
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_counts_for_the_families_of_pods_until_a_rule_names_their_interfaces() {
        let dropping = |ipv4, ipv6, names_pods| Dropping { chain: "chain".to_owned(), ipv4, ipv6, names_pods };
        for (found, dual_stack, problems) in [
            (dropping(true, false, false), false, 1),
            (dropping(true, false, true), false, 0),
            (dropping(false, true, false), false, 0),
            (dropping(false, true, false), true, 1),
            (dropping(true, true, false), true, 1),
        ] {
            let policies = ForwardPolicies { dropping: vec![found.clone()] };
            assert_eq!(policies.problems(dual_stack).len(), problems, "{found:?}");
        }
    }
}
