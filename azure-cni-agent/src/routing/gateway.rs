//! The router that leads to all of the Internet, so that the data path need not look up the kernel's routes for every packet.
//!
//! The rule: there is one only if every route agrees. With a single route that leads elsewhere, outside of what pods reach
//! with their own address, the data path looks up every packet.

use std::net::IpAddr;

use azure_cni_datapath::Gateways;
use ipnet::IpNet;

use crate::net::{NextHop, Via};

/// `hops`: next hops of the uplink, IPv4 then IPv6; `None` if they depend on more than the destination. `not_internet`:
/// prefixes to leave out.
pub fn gateways(hops: &[Option<Vec<NextHop>>; 2], not_internet: &[IpNet]) -> Gateways {
    let mut gateways = Gateways::default();
    for hops in hops.iter().flatten() {
        match sole_router(hops, not_internet) {
            Some(IpAddr::V4(router)) => gateways.v4 = Some(router),
            Some(IpAddr::V6(router)) => gateways.v6 = Some(router),
            None => {}
        }
    }
    gateways
}

/// The router of the default route, if no other route leads a part of the Internet elsewhere.
fn sole_router(hops: &[NextHop], not_internet: &[IpNet]) -> Option<IpAddr> {
    let default = hops.iter().find(|hop| hop.destination.prefix_len() == 0)?;
    let Via::Router(router) = default.via else { return None };
    let is_ignored = |hop: &NextHop| {
        let destination = &hop.destination;
        never_forwarded(destination) || not_internet.iter().any(|prefix| prefix.contains(destination))
    };
    let agree = hops.iter().all(|hop| hop.via == default.via || is_ignored(hop));
    (agree && router.is_ipv4() == default.destination.addr().is_ipv4()).then_some(router)
}

/// Whether the kernel forwards no packet of a pod there, whatever routes there are: link-local and multicast addresses.
fn never_forwarded(prefix: &IpNet) -> bool {
    match prefix {
        IpNet::V4(prefix) => prefix.addr().is_multicast(),
        IpNet::V6(prefix) => prefix.addr().is_unicast_link_local() || prefix.addr().is_multicast(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VNET: [&str; 2] = ["10.240.0.0/16", "fd00::/16"];

    fn hop(destination: &str, via: &str) -> NextHop {
        let via = match via {
            "link" => Via::Link,
            "other" => Via::Other,
            router => Via::Router(router.parse().unwrap()),
        };
        NextHop { destination: destination.parse().unwrap(), via }
    }

    fn sole(routes: &[(&str, &str)]) -> Option<IpAddr> {
        let hops: Vec<_> = routes.iter().map(|(destination, via)| hop(destination, via)).collect();
        sole_router(&hops, &VNET.map(|prefix| prefix.parse().unwrap()))
    }

    #[test]
    fn router_of_the_default_route_serves_all_where_every_route_agrees() {
        let azure = [
            ("0.0.0.0/0", "10.240.0.1"),
            ("10.240.0.0/16", "link"),
            ("168.63.129.16/32", "10.240.0.1"),
            ("169.254.169.254/32", "10.240.0.1"),
        ];
        assert_eq!(sole(&azure), Some("10.240.0.1".parse().unwrap()));
        let azure6 = [("::/0", "fe80::1234:5678:9abc"), ("fe80::/64", "link"), ("fd00::/64", "link")];
        assert_eq!(sole(&azure6), Some("fe80::1234:5678:9abc".parse().unwrap()));
    }

    #[test]
    fn one_route_that_leads_elsewhere_is_enough() {
        let default = ("0.0.0.0/0", "10.240.0.1");
        for other in [
            ("203.0.113.0/24", "10.240.0.9"),
            ("203.0.113.0/24", "link"),
            ("203.0.113.0/24", "other"),
            // Wider than the VNet's prefix.
            ("10.0.0.0/8", "10.240.0.9"),
            ("0.0.0.0/0", "10.240.0.2"),
        ] {
            assert_eq!(sole(&[default, other]), None, "{other:?}");
        }
        assert!(sole(&[default, ("10.240.7.0/24", "10.240.0.9")]).is_some(), "a VNet destination is looked up");
    }

    #[test]
    fn without_a_router_there_is_none() {
        assert_eq!(sole(&[]), None);
        assert_eq!(sole(&[("0.0.0.0/0", "link")]), None);
        assert_eq!(sole(&[("0.0.0.0/0", "other")]), None);
        assert_eq!(sole(&[("0.0.0.0/0", "fe80::1")]), None, "a router of the other family");
        assert_eq!(sole(&[("203.0.113.0/24", "10.240.0.1")]), None);
    }

    #[test]
    fn a_family_whose_rules_are_not_the_usual_has_none() {
        let v6 = vec![hop("::/0", "fe80::1")];
        let found = gateways(&[None, Some(v6)], &[]);
        assert_eq!(found, Gateways { v4: None, v6: Some("fe80::1".parse().unwrap()) });
    }
}
