//! What rules of the node do in the way of pods, for the operator: policies that drop what the host forwards, and prefixes that
//! kube-proxy takes for pods of this node.
//!
//! The rule: where services are many, this takes long to read. So it is read as the rules change, and kept: to show it costs nothing.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use ipnet::IpNet;

use super::forward_policy::ForwardPolicies;
use super::traffic_policy::taken_for_pods;

#[derive(Debug, Default)]
pub struct Hindrances {
    policies: ForwardPolicies,
    /// Why they could not be read, if so.
    policies_unread: Option<String>,
    taken_for_pods: BTreeSet<IpNet>,
}

impl Hindrances {
    /// Of the calling thread's namespace. Blocks for some exchanges with the kernel. An error of the kind
    /// [`io::ErrorKind::Interrupted`]: the rules change just now, and a retry helps.
    pub fn read() -> io::Result<Self> {
        let (policies, policies_unread) = match ForwardPolicies::read() {
            Ok(policies) => (policies, None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(error) => (ForwardPolicies::default(), Some(error.to_string())),
        };
        let taken_for_pods = match taken_for_pods() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            // A finding of its own: the addresses of services cannot be read either.
            Err(_) => BTreeSet::new(),
            Ok(prefixes) => prefixes,
        };
        Ok(Self { policies, policies_unread, taken_for_pods })
    }

    /// A sentence for each. `hosts`: the node's own addresses.
    pub fn problems(&self, hosts: &[IpAddr], dual_stack: bool) -> Vec<String> {
        let unread =
            self.policies_unread.iter().map(|why| format!("netfilter's FORWARD policies cannot be read: {why}"));
        let holds_host = |prefix: &&IpNet| hosts.iter().any(|host| prefix.contains(host));
        let taken = self.taken_for_pods.iter().find(holds_host).map(|prefix| {
            format!(
                "kube-proxy takes all of {prefix} for pods of this node (clusterCIDR): hosts there fail to reach services with \
                 externalTrafficPolicy: Local. Configure it with detectLocalMode: InterfaceNamePrefix and \
                 detectLocal.interfaceNamePrefix: azv"
            )
        });
        self.policies.problems(dual_stack).into_iter().chain(unread).chain(taken).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_that_is_taken_for_pods_is_a_problem_if_the_node_is_in_it() {
        let prefixes = ["10.240.1.0/24", "fd00:10:240::/64"].map(|prefix| prefix.parse().unwrap());
        let found = Hindrances { taken_for_pods: prefixes.into(), ..Hindrances::default() };
        for (host, problems) in [("10.240.0.4", 0), ("10.240.1.4", 1), ("fd00:10:240::4", 1), ("fd00:10:241::4", 0)] {
            assert_eq!(found.problems(&[host.parse().unwrap()], true).len(), problems, "{host}");
        }
    }
}
