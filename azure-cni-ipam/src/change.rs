//! What differs between two pools of one NIC, as far as the agent has to act on it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::pool::Pool;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// Addresses for pods, in order.
    pub came: Vec<IpAddr>,
    pub gone: Vec<IpAddr>,
    /// The subnets differ, and routes depend on them.
    pub subnets: bool,
    /// The public addresses differ, and source NAT depends on them.
    pub public: bool,
    /// Pods get IPv6 addresses from now on.
    pub became_dual_stack: bool,
}

impl Change {
    pub fn between(before: &Pool, after: &Pool) -> Self {
        let addresses = |pool: &Pool| pool.addresses().collect::<BTreeSet<IpAddr>>();
        let subnets = |pool: &Pool| pool.subnets.iter().map(|subnet| subnet.prefix).collect::<BTreeSet<IpNet>>();
        let (had, has) = (addresses(before), addresses(after));
        Self {
            came: has.difference(&had).copied().collect(),
            gone: had.difference(&has).copied().collect(),
            subnets: subnets(before) != subnets(after),
            public: before.public != after.public,
            became_dual_stack: after.is_dual_stack() && !before.is_dual_stack(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PoolSubnet, wireserver};

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
        }
    }

    #[test]
    fn the_same_pool_is_no_change_in_whatever_order_it_is_listed() {
        let one = pool(&[("10.0.0.0/24", &["10.0.0.5", "10.0.0.6"]), ("10.1.0.0/24", &[])]);
        let other = pool(&[("10.1.0.0/24", &[]), ("10.0.0.0/24", &["10.0.0.6", "10.0.0.5"])]);
        assert_eq!(Change::between(&one, &other), Change::default());
    }

    #[test]
    fn a_change_names_what_came_and_what_went() {
        let before = pool(&[("10.0.0.0/24", &["10.0.0.5", "10.0.0.6"])]);
        let mut after = pool(&[("10.0.0.0/24", &["10.0.0.6", "10.0.0.7"]), ("fd00::/64", &["fd00::5"])]);
        after.public.insert("10.0.0.7".parse().unwrap());
        let change = Change::between(&before, &after);
        assert_eq!(change.came, ["10.0.0.7", "fd00::5"].map(|text| text.parse::<IpAddr>().unwrap()));
        assert_eq!(change.gone, ["10.0.0.5".parse::<IpAddr>().unwrap()]);
        assert!(change.subnets && change.public && change.became_dual_stack);
        assert!(!Change::between(&after, &before).became_dual_stack);
    }

    #[test]
    fn the_document_of_an_empty_nic_takes_every_address_away() {
        let xml = "<Interfaces><Interface MacAddress=\"*\"><IPSubnet Prefix=\"10.0.0.0/24\">\
                   <IPAddress Address=\"10.0.0.4\" IsPrimary=\"true\"/></IPSubnet></Interface></Interfaces>";
        let empty = Pool::for_uplink(&wireserver::parse(xml).unwrap(), azure_cni_api::MacAddress([2; 6])).unwrap();
        let change = Change::between(&pool(&[("10.0.0.0/24", &["10.0.0.5"])]), &empty);
        assert_eq!((change.came.len(), change.gone.len(), change.subnets), (0, 1, false));
    }
}
