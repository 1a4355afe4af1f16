//! An endpoint as a value: its addresses and interfaces, and the routes and neighbours that follow from them.

use azure_cni_api::mac::HOST_MAC;
use azure_cni_api::names;
use azure_cni_ipam::Addresses;
use ipnet::{IpNet, Ipv4Net};

use super::gateway::{GATEWAY, gateway_for};
use crate::net::{NeighbourEntry, RouteEntry, RuleEntry};
use crate::state::AttachmentRecord;

const GATEWAY_PREFIX: IpNet = IpNet::V4(Ipv4Net::new_assert(GATEWAY, 32));

/// What ADD builds for an attachment, and CHECK and the reconciler expect.
#[derive(Debug, Clone)]
pub struct Endpoint {
    pub addresses: Addresses,
    /// The source addresses of the host's own packets to the pod.
    pub node_addresses: Addresses,
    pub host_interface: String,
    pub pod_interface: String,
    pub pod_mac: [u8; 6],
    /// Bytes.
    pub mtu: u32,
    /// The routing table of the pod that has its routes, for packets from its addresses; `None`: the main table, for all.
    pub table: Option<u32>,
}

impl Endpoint {
    /// The endpoint of a recorded attachment; `None` if the record has no IPv4 address, so that it is not one of ours.
    pub fn of_record(record: &AttachmentRecord, node_addresses: Addresses) -> Option<Self> {
        Some(Self {
            addresses: addresses_of(record)?,
            node_addresses,
            host_interface: record.host_interface.clone(),
            pod_interface: record.id.ifname.to_string(),
            pod_mac: record.pod_mac,
            mtu: record.mtu,
            table: record.own_table.then(|| names::route_table(&record.host_interface)),
        })
    }

    /// The routes in the pod's namespace: a default route for each family, and one to IPv4's gateway, on the link. IPv6's
    /// gateway is link-local, so it needs none.
    pub fn pod_routes(&self, interface: u32) -> Vec<RouteEntry> {
        let on_link = RouteEntry { destination: GATEWAY_PREFIX, gateway: None, interface, source: None };
        let defaults = self.addresses.iter().map(|address| RouteEntry {
            destination: RouteEntry::default_like(address),
            gateway: Some(gateway_for(address)),
            interface,
            source: None,
        });
        [on_link].into_iter().chain(defaults).collect()
    }

    /// What makes packets from its addresses find their routes.
    pub fn pod_rules(&self) -> impl Iterator<Item = RuleEntry> {
        let table = self.table.into_iter();
        table.flat_map(|table| self.addresses.iter().map(move |source| RuleEntry { source, table }))
    }

    pub fn gateway_neighbours(&self, interface: u32) -> impl Iterator<Item = NeighbourEntry> {
        self.addresses.iter().map(move |address| NeighbourEntry {
            address: gateway_for(address),
            mac: HOST_MAC,
            interface,
        })
    }

    /// How the host's stack reaches the pod. The route names the source address: the host veth has none, so the kernel
    /// would take the first of any interface, such as that of a node-local DNS cache on `lo`.
    pub fn host_routes(&self, interface: u32) -> impl Iterator<Item = RouteEntry> {
        self.addresses.iter().map(move |address| RouteEntry {
            destination: IpNet::from(address),
            gateway: None,
            interface,
            source: self.node_addresses.same_family(address),
        })
    }

    pub fn pod_neighbours(&self, interface: u32) -> impl Iterator<Item = NeighbourEntry> {
        self.addresses.iter().map(move |address| NeighbourEntry { address, mac: self.pod_mac, interface })
    }

    pub fn pod_prefixes(&self) -> impl Iterator<Item = IpNet> {
        self.addresses.iter().map(IpNet::from)
    }
}

/// The addresses that a record gives its pod; `None` without an IPv4 address among them.
pub fn addresses_of(record: &AttachmentRecord) -> Option<Addresses> {
    Addresses::first_of_each(record.addresses.iter().copied())
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn endpoint(v6: Option<&str>, node6: Option<&str>) -> Endpoint {
        let addresses = |v4: &str, v6: Option<&str>| Addresses {
            v4: v4.parse().unwrap(),
            v6: v6.map(|text| text.parse().unwrap()),
        };
        Endpoint {
            addresses: addresses("10.240.0.5", v6),
            node_addresses: addresses("10.240.0.4", node6),
            host_interface: "azv0123456789a".to_owned(),
            pod_interface: "eth0".to_owned(),
            pod_mac: [2; 6],
            mtu: 1500,
            table: None,
        }
    }

    fn texts(routes: impl IntoIterator<Item = RouteEntry>) -> Vec<String> {
        let or_none = |address: Option<IpAddr>| address.map_or("-".to_owned(), |address| address.to_string());
        let text = |route: RouteEntry| {
            format!("{} via {} src {}", route.destination, or_none(route.gateway), or_none(route.source))
        };
        routes.into_iter().map(text).collect()
    }

    #[test]
    fn programs_and_agent_agree_on_the_mac_of_host_interfaces() {
        assert_eq!(HOST_MAC, azure_cni_common::endpoint::HOST_MAC);
    }

    #[test]
    fn a_pod_has_a_default_route_for_each_family_it_has() {
        let single = ["169.254.1.1/32 via - src -", "0.0.0.0/0 via 169.254.1.1 src -"];
        assert_eq!(texts(endpoint(None, Some("fd00::4")).pod_routes(2)), single);
        let dual = [single[0], single[1], "::/0 via fe80::1234:5678:9abc src -"];
        assert_eq!(texts(endpoint(Some("fd00::5"), None).pod_routes(2)), dual);
        assert_eq!(endpoint(Some("fd00::5"), None).gateway_neighbours(2).count(), 2);
    }

    #[test]
    fn packets_from_each_address_of_a_further_attachment_ask_its_own_table() {
        let rules = |endpoint: &Endpoint| {
            endpoint.pod_rules().map(|rule| (rule.source.to_string(), rule.table)).collect::<Vec<_>>()
        };
        let first = endpoint(Some("fd00::5"), None);
        assert_eq!(rules(&first), []);
        let further = Endpoint { table: Some(7), ..first };
        assert_eq!(rules(&further), [("10.240.0.5".to_owned(), 7), ("fd00::5".to_owned(), 7)]);
    }

    #[test]
    fn the_host_reaches_each_address_from_its_own_of_that_family() {
        let ipv4 = "10.240.0.5/32 via - src 10.240.0.4";
        assert_eq!(texts(endpoint(None, Some("fd00::4")).host_routes(2)), [ipv4]);
        let dual = endpoint(Some("fd00::5"), Some("fd00::4"));
        assert_eq!(texts(dual.host_routes(2)), [ipv4, "fd00::5/128 via - src fd00::4"]);
        // A NIC without an IPv6 address of its own: the kernel chooses.
        assert_eq!(texts(endpoint(Some("fd00::5"), None).host_routes(2)), [ipv4, "fd00::5/128 via - src -"]);
        assert_eq!(dual.pod_neighbours(2).filter(|neighbour| neighbour.mac == dual.pod_mac).count(), 2);
    }
}
