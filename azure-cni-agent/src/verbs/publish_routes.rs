//! Publishes routes: which destinations are the VNet's, the host's and the platform's, and where the Internet is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{MutexGuard, PoisonError};

use azure_cni_common::egress::RouteClass;
use azure_cni_common::egress::{METADATA_SERVICE, WIRE_SERVER};
use azure_cni_ipam::Pool;
use ipnet::IpNet;

use super::failure::Failure;
use crate::agent::Agent;
use crate::endpoint::{GATEWAY6, PLATFORM_GATEWAY_MAC};
use crate::net::NeighbourEntry;
use crate::routing::{Routing, gateways};

/// Publishes routes for all recorded attachments.
pub(crate) async fn publish_routes(agent: &Agent) -> Result<(), Failure> {
    let _publishing = agent.publishing.lock().await;
    publish(agent, via_host(agent)).await
}

/// Publishes routes after an attachment was recorded that reaches these addresses through the host. Most are published
/// already, for other attachments.
pub(super) async fn publish_added(agent: &Agent, added: &[IpAddr]) -> Result<(), Failure> {
    let _publishing = agent.publishing.lock().await;
    if added.iter().all(|address| published(agent).contains(address)) {
        return Ok(());
    }
    publish(agent, via_host(agent)).await
}

/// Publishes routes after the record of an attachment has gone that reached these addresses through the host. Most are
/// still needed by other attachments.
pub(super) async fn publish_removed(agent: &Agent, removed: &[IpAddr]) -> Result<(), Failure> {
    if removed.is_empty() {
        return Ok(());
    }
    let _publishing = agent.publishing.lock().await;
    let wanted = via_host(agent);
    if *published(agent) == wanted { Ok(()) } else { publish(agent, wanted).await }
}

fn published(agent: &Agent) -> MutexGuard<'_, BTreeSet<IpAddr>> {
    agent.via_host.lock().unwrap_or_else(PoisonError::into_inner)
}

fn via_host(agent: &Agent) -> BTreeSet<IpAddr> {
    agent.records().iter().flat_map(|record| record.via_host.iter().copied()).collect()
}

/// Brings the data path's route table, and its gateways of the Internet, in line with configuration, node and attachments.
async fn publish(agent: &Agent, via_host: BTreeSet<IpAddr>) -> Result<(), Failure> {
    let next_hops = agent.netlink.next_hops(agent.uplink.index).await?;
    let routing = agent.routing();
    let node_addresses = agent.node_addresses.lock().unwrap_or_else(PoisonError::into_inner);
    let mut routes = routes(&agent.pool(), &routing, node_addresses.iter().chain(&via_host));
    let apart: Vec<_> = routes.keys().copied().collect();
    let gateways = gateways(&next_hops, &apart);
    let of_gateways = agent.datapath.tables().set_gateways(gateways)?;
    if of_gateways.repaired {
        repaired(agent, "gateway-repaired", 1);
    }
    if of_gateways.changed {
        let name = |router: Option<IpAddr>| router.map_or("by the kernel's routes".into(), |router| router.to_string());
        let (router, router6) = (name(gateways.v4.map(Into::into)), name(gateways.v6.map(Into::into)));
        tracing::info!(router, router6, "the way to the Internet has changed");
    }
    routes.extend(platform_routes());
    let left_out_before = agent.datapath.tables().routes_left_out();
    let of_routes = agent.datapath.tables().set_routes(&routes)?;
    if of_routes.repaired > 0 {
        repaired(agent, "routes-repaired", of_routes.repaired);
    }
    if of_routes.left_out != left_out_before {
        tracing::error!(
            left_out = of_routes.left_out,
            of = routes.len(),
            "routes that the route table has no room for"
        );
    }
    *published(agent) = via_host;
    Ok(())
}

/// Others have written to a map that is the agent's.
fn repaired(agent: &Agent, action: &'static str, count: usize) {
    tracing::warn!(action, count, "out of line; repaired");
    agent.count_repair(action);
}

/// The routes of VNet, pool and host. A prefix of VNet and host is the host's: going up the stack is right for every packet, only
/// slower. So is an address of the pool that the host has.
fn routes<'a>(
    pool: &Pool,
    routing: &Routing,
    via_host: impl Iterator<Item = &'a IpAddr>,
) -> BTreeMap<IpNet, RouteClass> {
    let subnets = pool.subnets.iter().map(|subnet| subnet.prefix);
    let vnet = subnets.chain(routing.vnet_prefixes()).map(|prefix| (prefix.trunc(), RouteClass::VNET));
    let is_own = |address: &IpAddr| pool.primaries().iter().any(|own| own == *address);
    let for_pods = pool.addresses().filter(|address| !is_own(address));
    let for_pods = for_pods.map(|address| (IpNet::from(address), RouteClass::POOL));
    let services = routing.config.service_prefixes.iter().flatten();
    let services = services.map(|prefix| (prefix.trunc(), RouteClass::HOST));
    let addresses = routing.config.host_addresses.iter().copied().chain(via_host.copied());
    let addresses = addresses.map(|address| (IpNet::from(address), RouteClass::HOST));
    vnet.chain(for_pods).chain(services).chain(addresses).collect()
}

/// The platform's addresses are the platform's, whatever else names them: these replace other routes.
fn platform_routes() -> impl Iterator<Item = (IpNet, RouteClass)> {
    let prefix = |address| IpNet::from(IpAddr::from(Ipv4Addr::from(address)));
    [WIRE_SERVER, METADATA_SERVICE].into_iter().map(move |address| (prefix(address), RouteClass::PLATFORM))
}

/// The platform's router does not respond to neighbour solicitations for its IPv6 address, so the kernel gets an entry for it.
pub(crate) async fn set_platform_gateway(agent: &Agent) -> Result<(), Failure> {
    let has_v6 = |pool: &Pool| pool.subnets.iter().any(|subnet| subnet.prefix.addr().is_ipv6());
    let pool = agent.pool();
    if pool.is_dual_stack() || (agent.leases.cns().is_some() && has_v6(&pool)) {
        let interface = agent.uplink.index;
        let gateway = NeighbourEntry { address: GATEWAY6.into(), mac: PLATFORM_GATEWAY_MAC, interface };
        agent.netlink.replace_neighbour(gateway).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use azure_cni_ipam::PoolSubnet;

    use super::*;
    use crate::config::RoutingConfig;

    fn table(routing: &str, via_host: &[&str]) -> Vec<(String, RouteClass)> {
        table_with_pool(&[], routing, via_host)
    }

    fn table_with_pool(for_pods: &[&str], routing: &str, via_host: &[&str]) -> Vec<(String, RouteClass)> {
        let subnet = PoolSubnet::outside_of_pool("10.240.0.0/16".parse().unwrap(), None);
        let addresses = for_pods.iter().map(|text| text.parse().unwrap()).collect();
        let pool = Pool {
            primary: "10.240.0.4".parse().unwrap(),
            primary6: None,
            subnets: vec![PoolSubnet { addresses, ..subnet }],
            withheld: vec![],
            public: BTreeSet::new(),
            oddities: vec![],
        };
        let routing = Routing::new(toml::from_str::<RoutingConfig>(routing).unwrap());
        let via_host: Vec<IpAddr> = via_host.iter().map(|text| text.parse().unwrap()).collect();
        let mut routes = routes(&pool, &routing, via_host.iter());
        routes.extend(platform_routes());
        routes.into_iter().map(|(prefix, class)| (prefix.to_string(), class)).collect()
    }

    #[test]
    fn the_platforms_addresses_are_always_the_platforms() {
        let platform =
            ["168.63.129.16/32", "169.254.169.254/32"].map(|prefix| (prefix.to_owned(), RouteClass::PLATFORM));
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
    fn an_address_of_the_pool_is_a_pods_unless_the_host_has_it() {
        let for_pods = ["10.240.0.4", "10.240.0.5", "10.240.0.6", "10.240.0.7", "fd00::5"];
        let routes = table_with_pool(&for_pods, "host_addresses = ['10.240.0.6']", &["10.240.0.7"]);
        let of = |address: &str| {
            let found = routes.iter().find(|(prefix, _)| prefix.split_once('/').unwrap().0 == address);
            found.map(|(_, class)| *class)
        };
        assert_eq!(of("10.240.0.4"), None, "the primary");
        assert_eq!([of("10.240.0.5"), of("fd00::5")], [Some(RouteClass::POOL); 2]);
        assert_eq!([of("10.240.0.6"), of("10.240.0.7")], [Some(RouteClass::HOST); 2]);
    }

    #[test]
    fn a_prefix_of_vnet_and_host_is_the_hosts() {
        let routes = table("vnet_prefixes = ['10.0.0.0/16']\nservice_prefixes = ['10.0.0.0/16']", &["10.240.0.4"]);
        assert!(routes.contains(&("10.0.0.0/16".to_owned(), RouteClass::HOST)), "{routes:?}");
        assert!(routes.contains(&("10.240.0.4/32".to_owned(), RouteClass::HOST)), "{routes:?}");
    }
}
