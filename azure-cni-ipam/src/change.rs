//! The difference between two pools of one NIC, as far as the agent acts on it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::pool::Pool;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// New addresses for pods, in order.
    pub added: Vec<IpAddr>,
    /// Addresses that the pool no longer has, in order.
    pub removed: Vec<IpAddr>,
    /// The subnets differ, and routes depend on them.
    pub subnets: bool,
    /// The public addresses differ, and source NAT depends on them.
    pub public: bool,
    /// New pods get IPv6 addresses too from now on.
    pub became_dual_stack: bool,
}

impl Change {
    pub fn between(before: &Pool, after: &Pool) -> Self {
        let addresses = |pool: &Pool| pool.addresses().collect::<BTreeSet<IpAddr>>();
        let subnets = |pool: &Pool| pool.subnets.iter().map(|subnet| subnet.prefix).collect::<BTreeSet<IpNet>>();
        let (had, has) = (addresses(before), addresses(after));
        Self {
            added: has.difference(&had).copied().collect(),
            removed: had.difference(&has).copied().collect(),
            subnets: subnets(before) != subnets(after),
            public: before.public != after.public,
            became_dual_stack: after.is_dual_stack() && !before.is_dual_stack(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::PoolSubnet;
    use crate::wireserver;

    fn pool(subnets: &[(&str, &[&str])]) -> Pool {
        let subnet = |(prefix, addresses): &(&str, &[&str])| PoolSubnet {
            prefix: prefix.parse().unwrap(),
            gateway: "10.0.0.1".parse().unwrap(),
            primary: None,
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        };
        Pool {
            primary: "10.0.0.4".parse().unwrap(),
            primary6: None,
            subnets: subnets.iter().map(subnet).collect(),
            withheld: Vec::new(),
            public: BTreeSet::new(),
            oddities: Vec::new(),
        }
    }

    #[test]
    fn the_same_pool_in_another_order_is_no_change() {
        let one = pool(&[("10.0.0.0/24", &["10.0.0.5", "10.0.0.6"]), ("10.1.0.0/24", &[])]);
        let other = pool(&[("10.1.0.0/24", &[]), ("10.0.0.0/24", &["10.0.0.6", "10.0.0.5"])]);
        assert_eq!(Change::between(&one, &other), Change::default());
    }

    #[test]
    fn added_and_removed_addresses_are_listed() {
        let before = pool(&[("10.0.0.0/24", &["10.0.0.5", "10.0.0.6"])]);
        let mut after = pool(&[("10.0.0.0/24", &["10.0.0.6", "10.0.0.7"]), ("fd00::/64", &["fd00::5"])]);
        after.public.insert("10.0.0.7".parse().unwrap());
        let change = Change::between(&before, &after);
        assert_eq!(change.added, ["10.0.0.7", "fd00::5"].map(|text| text.parse::<IpAddr>().unwrap()));
        assert_eq!(change.removed, ["10.0.0.5".parse::<IpAddr>().unwrap()]);
        assert!(change.subnets && change.public && change.became_dual_stack);
        assert!(!Change::between(&after, &before).became_dual_stack);
    }

    #[test]
    fn a_nic_without_pod_addresses_removes_all_of_them() {
        let xml = "<Interfaces><Interface MacAddress=\"*\"><IPSubnet Prefix=\"10.0.0.0/24\">\
                   <IPAddress Address=\"10.0.0.4\" IsPrimary=\"true\"/></IPSubnet></Interface></Interfaces>";
        let empty = Pool::for_uplink(&wireserver::parse(xml).unwrap(), azure_cni_api::MacAddress([2; 6])).unwrap();
        let change = Change::between(&pool(&[("10.0.0.0/24", &["10.0.0.5"])]), &empty);
        assert_eq!((change.added.len(), change.removed.len(), change.subnets), (0, 1, false));
    }
}
