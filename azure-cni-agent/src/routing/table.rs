//! The route table: the class of every destination that is not just the Internet. Pure.
//!
//! The rule: what is more specific decides, as in the kernel. Of one prefix, the host's comes before a pod's, and a pod's before
//! the VNet's: going up the host's stack is right for every packet, only slower. An address of the pool that rules of the node
//! translate is the host's. The platform's addresses are the platform's, whatever else names them, but for such rules.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use azure_cni_common::egress::{METADATA_SERVICE, RouteClass, WIRE_SERVER};
use azure_cni_ipam::Pool;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::Routing;
use super::services::Services;

/// What the table is made of.
#[derive(Clone)]
pub struct Surroundings<'a> {
    pub pool: &'a Pool,
    pub routing: &'a Routing,
    /// Of the node, and those that attachments reach through the host.
    pub host_addresses: BTreeSet<IpAddr>,
    /// Addresses of the pool that rules of the node translate, as last known. A pod that has one is found before its route is.
    pub services_in_pool: BTreeSet<IpAddr>,
    pub services: &'a Services,
    /// Prefixes that the node's routes lead elsewhere than to the uplink.
    pub elsewhere: &'a BTreeSet<IpNet>,
    /// Destinations of the kernel's routes by the uplink. None while they depend on more than the destination.
    pub uplink: &'a BTreeSet<IpNet>,
}

/// Without the platform's routes, see [`platform_routes`].
pub fn routes(of: &Surroundings<'_>) -> BTreeMap<IpNet, RouteClass> {
    let (pool, config) = (of.pool, &of.routing.config);
    let vnet: BTreeSet<_> = pool.subnets.iter().map(|subnet| subnet.prefix).chain(of.routing.vnet_prefixes()).collect();
    let vnet: BTreeSet<_> = vnet.into_iter().map(|prefix| prefix.trunc()).collect();
    let is_own = |address: &IpAddr| pool.primaries().iter().any(|own| own == *address);
    let for_pods = pool.addresses().filter(|address| !is_own(address));
    let for_pods = for_pods.map(|address| (IpNet::from(address), RouteClass::POOL));
    let services: BTreeSet<_> = config.service_prefixes.iter().flatten().map(|prefix| prefix.trunc()).collect();
    let in_pool = of.services_in_pool.iter().map(|address| (IpNet::from(*address), RouteClass::POOL_BY_HOST));
    let addresses = config.host_addresses.iter().chain(&of.host_addresses);
    let addresses = addresses.map(|address| IpNet::from(*address));
    let of_host = services.iter().copied().chain(addresses).map(|prefix| (prefix, RouteClass::HOST));
    let table =
        vnet.iter().map(|prefix| (*prefix, RouteClass::VNET)).chain(for_pods).chain(in_pool).chain(of_host).collect();
    let mut table = Table {
        table,
        is_internet_by_host: config.service_prefixes.is_none(),
        vnet: Prefixes::of(&vnet),
        services: Prefixes::of(&services),
    };
    for prefix in of.elsewhere {
        table.lead_to_host(*prefix);
        // Where the kernel has a more specific route, as for the uplink's own subnet, the VNet stays at the uplink.
        let is_uplinks = |within: &IpNet| {
            of.uplink.iter().any(|route| route.prefix_len() > prefix.prefix_len() && route.contains(within))
        };
        let within = vnet.iter().filter(|within| prefix.contains(*within) && !is_uplinks(within));
        table.lead_vnet_within_to_host(prefix, &within.copied().collect());
    }
    match of.services {
        Services::Known(rules) => {
            for prefix in rules.destinations() {
                table.lead_to_host(*prefix);
                table.lead_vnet_within_to_host(prefix, &vnet);
            }
        }
        // Any destination may be a service.
        Services::Unknown(_) => {
            for everything in [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())] {
                table.lead_to_host(everything);
                table.lead_vnet_within_to_host(&everything, &vnet);
            }
        }
    }
    table.table
}

struct Table {
    table: BTreeMap<IpNet, RouteClass>,
    /// What is of the Internet goes up the host's stack anyway.
    is_internet_by_host: bool,
    vnet: Prefixes,
    services: Prefixes,
}

impl Table {
    /// The host's stack does something with packets to the prefix.
    fn lead_to_host(&mut self, prefix: IpNet) {
        let is_covered = self.services.cover(prefix);
        let others = [RouteClass::HOST, RouteClass::POOL, RouteClass::POOL_BY_HOST];
        let has_other = self.table.get(&prefix).is_some_and(|class| others.contains(class));
        if is_covered || has_other {
            return;
        }
        if self.vnet.cover(prefix) {
            self.table.insert(prefix, RouteClass::VNET_BY_HOST);
        } else if !self.is_internet_by_host {
            self.table.insert(prefix, RouteClass::INTERNET_BY_HOST);
        }
    }

    /// Prefixes of the VNet within the given one are more specific than it.
    fn lead_vnet_within_to_host(&mut self, prefix: &IpNet, vnet: &BTreeSet<IpNet>) {
        if prefix.prefix_len() == prefix.max_prefix_len() {
            return;
        }
        for within in vnet.iter().filter(|within| prefix.contains(*within)) {
            self.lead_to_host(*within);
        }
    }
}

/// Prefixes that can be asked whether one of them holds another.
struct Prefixes {
    all: BTreeSet<IpNet>,
    lengths: BTreeSet<u8>,
}

impl Prefixes {
    fn of(all: &BTreeSet<IpNet>) -> Self {
        Self { all: all.clone(), lengths: all.iter().map(IpNet::prefix_len).collect() }
    }

    fn cover(&self, prefix: IpNet) -> bool {
        let wider = self.lengths.range(..=prefix.prefix_len());
        wider.filter_map(|length| IpNet::new(prefix.addr(), *length).ok()).any(|net| self.all.contains(&net.trunc()))
    }
}

/// How many [`platform_routes`] makes.
pub const PLATFORM_ROUTES: usize = 2;

/// These replace other routes. An address that rules of the node name (a proxy of the metadata service, say) goes up the host's stack, and
/// what the rules leave alone gets the node's source at the wire. While the rules are not known, there is no such proxy as a rule.
pub fn platform_routes(services: &Services) -> impl Iterator<Item = (IpNet, RouteClass)> {
    let is_named = |prefix: &IpNet| match services {
        Services::Known(rules) => rules.destinations().any(|named| named.contains(prefix)),
        Services::Unknown(_) => false,
    };
    [WIRE_SERVER, METADATA_SERVICE].into_iter().map(move |address| {
        let prefix = IpNet::from(IpAddr::from(Ipv4Addr::from(address)));
        (prefix, if is_named(&prefix) { RouteClass::INTERNET_BY_HOST } else { RouteClass::PLATFORM })
    })
}

/// The prefixes that are not of the Internet.
pub fn apart(routes: &BTreeMap<IpNet, RouteClass>) -> Vec<IpNet> {
    let apart = routes.iter().filter(|(_, class)| **class != RouteClass::INTERNET_BY_HOST);
    apart.map(|(prefix, _)| *prefix).collect()
}

#[cfg(test)]
mod tests;
