//! What becomes of more routes than the route table has room for. Pure.
//!
//! The rule: first what changes nothing is left out, a prefix within another of the same class. Then single services and networks behind
//! the host are: all that pods send takes the host's stack then, which is right for every packet, only slower. What is too much even so
//! is of the VNet or of the pool, and left to the data path, which leaves out what does the least harm.

use std::collections::{BTreeMap, BTreeSet};

use azure_cni_common::egress::RouteClass;
use ipnet::IpNet;

use super::services::Services;
use super::table::{Surroundings, routes};

/// The routes, as few as there is room for if that can be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fitted {
    pub routes: BTreeMap<IpNet, RouteClass>,
    /// Families of which all takes the host's stack, for want of room.
    pub all_by_host: Vec<&'static str>,
}

/// `room`: of IPv4 and IPv6. `None`: there are no routes of the family.
pub fn fit(of: &Surroundings<'_>, room: [Option<usize>; 2]) -> Fitted {
    let mut fitted = Fitted::default();
    let all = routes(of);
    for ((family, is_v4), room) in [("IPv4", true), ("IPv6", false)].into_iter().zip(room) {
        let mut of_family = all.clone();
        of_family.retain(|prefix, _| prefix.addr().is_ipv4() == is_v4);
        let Some(room) = room.filter(|room| of_family.len() > *room) else {
            fitted.routes.extend(of_family);
            continue;
        };
        let mut kept = without_repetitions(&of_family);
        if kept.len() > room {
            let mut by_host = all_by_host(of);
            by_host.retain(|prefix, _| prefix.addr().is_ipv4() == is_v4);
            let by_host = without_repetitions(&by_host);
            if by_host.len() < kept.len() {
                kept = by_host;
                fitted.all_by_host.push(family);
            }
        }
        fitted.routes.extend(kept);
    }
    fitted
}

/// As if neither the node's rules nor its routes were known.
fn all_by_host(of: &Surroundings<'_>) -> BTreeMap<IpNet, RouteClass> {
    let (services, elsewhere) = (Services::Unknown(String::new()), BTreeSet::new());
    routes(&Surroundings { services: &services, elsewhere: &elsewhere, ..of.clone() })
}

/// Without prefixes within another that says the same. In order, a prefix comes before those within it.
fn without_repetitions(routes: &BTreeMap<IpNet, RouteClass>) -> BTreeMap<IpNet, RouteClass> {
    let mut kept = BTreeMap::new();
    let mut around: Vec<(IpNet, RouteClass)> = Vec::new();
    for (prefix, class) in routes {
        while around.last().is_some_and(|(outer, _)| !outer.contains(prefix)) {
            around.pop();
        }
        if around.last().is_none_or(|(_, outer)| outer != class) {
            around.push((*prefix, *class));
            kept.insert(*prefix, *class);
        }
    }
    kept
}

/// What an operator should know, in a sentence.
pub fn problem(all_by_host: &[&str]) -> Option<String> {
    (!all_by_host.is_empty()).then(|| {
        format!(
            "the route table of {} has no room for all addresses of services and networks of the node: all that pods send takes the \
             host's stack, which is right and slower. Raise datapath.max_routes and restart azure-cni-agent, or name the services' \
             prefixes in routing.service_prefixes",
            all_by_host.join(" and ")
        )
    })
}

#[cfg(test)]
mod tests {
    use azure_cni_ipam::{Pool, PoolSubnet};

    use super::*;
    use crate::config::RoutingConfig;
    use crate::net::ServiceRules;
    use crate::routing::Routing;

    fn prefixes(texts: &[&str]) -> BTreeSet<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// A node of both families with two services of the VNet and two of the Internet in each, and a network behind it.
    fn fitted(room: [Option<usize>; 2]) -> (Vec<(String, RouteClass)>, Vec<&'static str>) {
        let subnet = |prefix: &str, address: &str| PoolSubnet {
            addresses: vec![address.parse().unwrap()],
            ..PoolSubnet::outside_of_pool(prefix.parse().unwrap(), None)
        };
        let pool = Pool {
            primary: "10.240.0.4".parse().unwrap(),
            primary6: None,
            subnets: vec![subnet("10.240.0.0/16", "10.240.0.5"), subnet("fd00::/64", "fd00::5")],
            withheld: vec![],
            public: BTreeSet::new(),
            oddities: vec![],
        };
        let config: RoutingConfig =
            toml::from_str("vnet_prefixes = ['10.240.8.0/24', 'fd00::8:0/112']\nservice_prefixes = []").unwrap();
        let nftables = prefixes(&[
            "10.240.0.9/32",
            "10.240.8.9/32",
            "203.0.113.8/32",
            "203.0.113.9/32",
            "fd00::9/128",
            "fd00::8:9/128",
            "2001:db8::8/128",
            "2001:db8::9/128",
        ]);
        let fitted = fit(
            &Surroundings {
                pool: &pool,
                routing: &Routing::new(config),
                host_addresses: ["10.240.0.4", "fd00::4"].map(|text| text.parse().unwrap()).into(),
                services_in_pool: BTreeSet::new(),
                services: &Services::Known(ServiceRules { nftables, ..ServiceRules::default() }),
                elsewhere: &prefixes(&["172.17.0.0/16", "fd77::/64"]),
                uplink: &BTreeSet::new(),
            },
            room,
        );
        let routes = fitted.routes.iter().map(|(prefix, class)| (prefix.to_string(), *class)).collect();
        (routes, fitted.all_by_host)
    }

    fn class(routes: &[(String, RouteClass)], address: &str) -> RouteClass {
        let address: std::net::IpAddr = address.parse().unwrap();
        let holding = routes.iter().map(|(prefix, class)| (prefix.parse::<IpNet>().unwrap(), *class));
        let narrowest =
            holding.filter(|(prefix, _)| prefix.contains(&address)).max_by_key(|(prefix, _)| prefix.prefix_len());
        narrowest.map_or(RouteClass::INTERNET, |(_, class)| class)
    }

    const ADDRESSES: [&str; 16] = [
        "10.240.0.4",
        "10.240.0.5",
        "10.240.0.9",
        "10.240.8.9",
        "10.240.7.7",
        "203.0.113.9",
        "172.17.0.2",
        "198.51.100.1",
        "fd00::4",
        "fd00::5",
        "fd00::9",
        "fd00::8:9",
        "fd00::7",
        "2001:db8::9",
        "fd77::2",
        "2001:db8:1::1",
    ];

    #[test]
    fn what_changes_nothing_is_left_out_first_then_all_takes_the_hosts_stack_each_family_by_itself() {
        let (all, none) = fitted([Some(9), Some(9)]);
        assert_eq!((all.len(), none.len()), (18, 0));
        let (fewer, none) = fitted([Some(8), Some(9)]);
        assert_eq!((fewer.len(), none.len()), (17, 0), "one prefix of the VNet is within another");
        for address in ADDRESSES {
            assert_eq!(class(&fewer, address), class(&all, address), "{address}");
        }
        for (room, families, v4) in [
            ([Some(7), Some(9)], vec!["IPv4"], true),
            ([Some(9), Some(7)], vec!["IPv6"], false),
            ([Some(1), Some(1)], vec!["IPv4", "IPv6"], true),
        ] {
            let (few, all_by_host) = fitted(room);
            assert_eq!(all_by_host, families);
            for address in ADDRESSES.into_iter().filter(|address| address.contains('.') == v4) {
                let expected = match class(&all, address) {
                    RouteClass::VNET => RouteClass::VNET_BY_HOST,
                    RouteClass::INTERNET => RouteClass::INTERNET_BY_HOST,
                    same => same,
                };
                assert_eq!(class(&few, address), expected, "{address}");
            }
        }
        assert_eq!(fitted([Some(1), None]).0.iter().filter(|(prefix, _)| !prefix.contains(':')).count(), 4);
    }

    #[test]
    fn the_sentence_names_families_and_key() {
        assert_eq!(problem(&[]), None);
        let sentence = problem(&["IPv4", "IPv6"]).unwrap();
        assert!(sentence.contains("IPv4 and IPv6") && sentence.contains("datapath.max_routes"), "{sentence}");
    }
}
