//! What class each destination has.

use azure_cni_ipam::PoolSubnet;

use super::*;
use crate::config::RoutingConfig;
use crate::net::ServiceRules;

#[derive(Clone, Copy, Default)]
struct Node<'a> {
    for_pods: &'a [&'a str],
    routing: &'a str,
    host: &'a [&'a str],
    services_in_pool: &'a [&'a str],
    /// `None`: the rules cannot be read.
    services: Option<&'a [&'a str]>,
    elsewhere: &'a [&'a str],
    uplink: &'a [&'a str],
}

fn prefixes(texts: &[&str]) -> BTreeSet<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

impl Node<'_> {
    fn table(&self) -> Vec<(String, RouteClass)> {
        let subnet = PoolSubnet::outside_of_pool("10.240.0.0/16".parse().unwrap(), None);
        let addresses = self.for_pods.iter().map(|text| text.parse().unwrap()).collect();
        let pool = Pool {
            primary: "10.240.0.4".parse().unwrap(),
            primary6: None,
            subnets: vec![PoolSubnet { addresses, ..subnet }],
            withheld: vec![],
            public: BTreeSet::new(),
            oddities: vec![],
        };
        let rules = |rules| ServiceRules { nftables: prefixes(rules), iptables: BTreeSet::new() };
        let services = self.services.map(rules).map_or_else(|| Services::Unknown("why".to_owned()), Services::Known);
        let mut routes = routes(&Surroundings {
            pool: &pool,
            routing: &Routing::new(toml::from_str::<RoutingConfig>(self.routing).unwrap()),
            host_addresses: self.host.iter().map(|text| text.parse().unwrap()).collect(),
            services_in_pool: self.services_in_pool.iter().map(|text| text.parse().unwrap()).collect(),
            services: &services,
            elsewhere: &prefixes(self.elsewhere),
            uplink: &prefixes(self.uplink),
        });
        routes.extend(platform_routes(&services));
        routes.into_iter().map(|(prefix, class)| (prefix.to_string(), class)).collect()
    }

    fn class(&self, prefix: &str) -> Option<RouteClass> {
        self.table().iter().find(|(found, _)| found == prefix).map(|(_, class)| *class)
    }
}

fn table(routing: &str, host: &[&str]) -> Vec<(String, RouteClass)> {
    Node { routing, host, services: Some(&[]), ..Node::default() }.table()
}

#[test]
fn the_platforms_addresses_are_the_platforms_whatever_is_configured() {
    let platform = ["168.63.129.16/32", "169.254.169.254/32"].map(|prefix| (prefix.to_owned(), RouteClass::PLATFORM));
    let vnet = ("10.240.0.0/16".to_owned(), RouteClass::VNET);
    for (routing, via_host) in [
        ("", &[][..]),
        ("host_addresses = ['169.254.169.254']", &["168.63.129.16"][..]),
        ("service_prefixes = ['168.63.129.16/32']", &[]),
        ("vnet_prefixes = ['168.63.129.16/32']", &[]),
    ] {
        let expected = [vnet.clone(), platform[0].clone(), platform[1].clone()];
        assert_eq!(table(routing, via_host), expected, "{routing} {via_host:?}");
    }
}

#[test]
fn an_address_of_the_pool_is_a_pods_unless_the_host_has_it_or_rules_translate_it() {
    let for_pods = ["10.240.0.4", "10.240.0.5", "10.240.0.6", "10.240.0.7", "10.240.0.8", "fd00::5", "fd00::8"];
    let node = Node {
        for_pods: &for_pods,
        routing: "host_addresses = ['10.240.0.6']",
        host: &["10.240.0.7"],
        services_in_pool: &["10.240.0.8", "fd00::8"],
        // A prefix is no address of a service.
        services: Some(&["10.240.0.8/32", "fd00::8/128", "10.240.0.0/24", "fd00::/64"]),
        elsewhere: &["10.240.0.5/32", "fd00::5/128"],
        ..Node::default()
    };
    for node in [Node { services: None, ..node }, node] {
        assert_eq!(node.class("10.240.0.4/32"), None, "the primary");
        assert_eq!([node.class("10.240.0.5/32"), node.class("fd00::5/128")], [Some(RouteClass::POOL); 2]);
        assert_eq!([node.class("10.240.0.6/32"), node.class("10.240.0.7/32")], [Some(RouteClass::HOST); 2]);
        assert_eq!([node.class("10.240.0.8/32"), node.class("fd00::8/128")], [Some(RouteClass::POOL_BY_HOST); 2]);
    }
}

#[test]
fn a_prefix_of_vnet_and_host_is_the_hosts() {
    let routes = table("vnet_prefixes = ['10.0.0.0/16']\nservice_prefixes = ['10.0.0.0/16']", &["10.240.0.4"]);
    assert!(routes.contains(&("10.0.0.0/16".to_owned(), RouteClass::HOST)), "{routes:?}");
    assert!(routes.contains(&("10.240.0.4/32".to_owned(), RouteClass::HOST)), "{routes:?}");
}

const KNOWN: &str = "service_prefixes = ['10.0.0.0/16']\nvnet_prefixes = ['fd00::/48']";

#[test]
fn what_rules_name_goes_up_the_stack_and_keeps_the_source_that_it_would_have() {
    let (vnet, internet) = (Some(RouteClass::VNET_BY_HOST), Some(RouteClass::INTERNET_BY_HOST));
    for (services, prefix, known, unknown) in [
        (&["10.240.9.9/32"][..], "10.240.9.9/32", vnet, vnet),
        (&["fd00::9:9/128"], "fd00::9:9/128", vnet, None),
        (&["203.0.113.9/32"], "203.0.113.9/32", internet, None),
        (&["2001:db8::9/128"], "2001:db8::9/128", internet, None),
        // A cluster IP is in the table as its prefix.
        (&["10.0.0.9/32"], "10.0.0.9/32", None, None),
        (&["10.240.0.0/16"], "10.240.0.0/16", vnet, vnet),
        (&["10.240.8.0/21"], "10.240.8.0/21", vnet, vnet),
        // Wider than the VNet, whose prefix is more specific.
        (&["10.0.0.0/8"], "10.240.0.0/16", vnet, vnet),
        (&["10.0.0.0/8"], "10.0.0.0/8", internet, None),
        (&["10.240.0.4/32"], "10.240.0.4/32", Some(RouteClass::HOST), Some(RouteClass::HOST)),
        // A proxy of the node.
        (&["168.63.129.16/32"], "168.63.129.16/32", internet, internet),
        (&["169.254.0.0/16"], "169.254.169.254/32", internet, internet),
        (&["169.254.169.254/32"], "168.63.129.16/32", Some(RouteClass::PLATFORM), Some(RouteClass::PLATFORM)),
        (&[], "10.240.0.0/16", Some(RouteClass::VNET), Some(RouteClass::VNET)),
    ] {
        let node = Node { routing: KNOWN, host: &["10.240.0.4"], services: Some(services), ..Node::default() };
        assert_eq!(node.class(prefix), known, "{services:?}: {prefix}");
        assert_eq!(
            Node { routing: "", ..node }.class(prefix),
            unknown,
            "service prefixes unknown: {services:?}: {prefix}"
        );
    }
}

#[test]
fn while_the_rules_are_not_known_everything_goes_up_the_stack_but_the_platforms() {
    let node = Node { routing: KNOWN, host: &["10.240.0.4"], ..Node::default() };
    let by_host = |prefix: &str| node.class(prefix).unwrap();
    assert_eq!([by_host("0.0.0.0/0"), by_host("::/0")], [RouteClass::INTERNET_BY_HOST; 2]);
    assert_eq!([by_host("10.240.0.0/16"), by_host("fd00::/48")], [RouteClass::VNET_BY_HOST; 2]);
    assert_eq!([by_host("10.0.0.0/16"), by_host("10.240.0.4/32")], [RouteClass::HOST; 2]);
    assert_eq!(by_host("168.63.129.16/32"), RouteClass::PLATFORM);
    // Without service prefixes the Internet goes up anyway.
    let node = Node { routing: "", ..node };
    assert_eq!([node.class("0.0.0.0/0"), node.class("10.240.0.0/16")], [None, Some(RouteClass::VNET_BY_HOST)]);
}

#[test]
fn what_the_nodes_routes_lead_elsewhere_is_theirs_and_the_subnet_within_stays_where_the_kernel_has_it() {
    let elsewhere = &["172.17.0.0/16", "10.240.7.0/24", "10.0.0.0/8", "10.0.5.0/24"];
    let uplink = &["0.0.0.0/0", "10.240.0.0/16"];
    let node = Node { routing: KNOWN, services: Some(&[]), elsewhere, uplink, ..Node::default() };
    assert_eq!([node.class("172.17.0.0/16"), node.class("10.0.0.0/8")], [Some(RouteClass::INTERNET_BY_HOST); 2]);
    assert_eq!(node.class("10.240.7.0/24"), Some(RouteClass::VNET_BY_HOST));
    assert_eq!(node.class("10.240.0.0/16"), Some(RouteClass::VNET));
    assert_eq!(node.class("10.0.5.0/24"), None, "within the service prefixes");
    let routing = "vnet_prefixes = ['10.50.0.0/16', '10.240.0.0/16', '172.16.0.0/12']";
    let node = Node { routing, ..node };
    assert_eq!(node.class("10.50.0.0/16"), Some(RouteClass::VNET_BY_HOST), "the kernel leads it elsewhere");
    assert_eq!([node.class("10.240.0.0/16"), node.class("172.16.0.0/12")], [Some(RouteClass::VNET); 2]);
    let node = Node { uplink: &["0.0.0.0/0", "10.240.0.0/24"], ..node };
    assert_eq!(node.class("10.240.0.0/16"), Some(RouteClass::VNET_BY_HOST), "no more specific route holds it");
}

#[test]
fn only_what_stays_of_the_internet_leaves_the_router_alone() {
    let table = |services| {
        let node = Node { routing: KNOWN, services, ..Node::default() };
        let table = node.table().into_iter().map(|(prefix, class)| (prefix.parse().unwrap(), class)).collect();
        apart(&table).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert!(!table(None).contains(&"0.0.0.0/0".to_owned()));
    assert!(!table(Some(&["203.0.113.9/32"])).contains(&"203.0.113.9/32".to_owned()));
    assert!(table(Some(&["10.240.9.9/32"])).contains(&"10.240.9.9/32".to_owned()));
}
