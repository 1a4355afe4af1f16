//! Publishes routes: which destinations are the VNet's, the host's and the platform's, and where the Internet is.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{MutexGuard, PoisonError};

use azure_cni_ipam::Pool;
use ipnet::IpNet;

use super::failure::Failure;
use crate::agent::Agent;
use crate::endpoint::{GATEWAY6, PLATFORM_GATEWAY_MAC};
use crate::net::{NeighbourEntry, NetError};
use crate::routing::{Fitted, PLATFORM_ROUTES, Surroundings, apart, fit, gateways, platform_routes, room_problem};

/// Publishes routes for all recorded attachments.
pub(crate) async fn publish_routes(agent: &Agent) -> Result<(), Failure> {
    let _publishing = agent.publishing.lock().await;
    publish(agent, via_host(agent)).await
}

/// Publishes routes after an attachment was recorded that reaches these addresses through the host. Most are published
/// already, for other attachments.
pub(super) async fn publish_added(agent: &Agent, added: &[IpAddr]) -> Result<(), Failure> {
    // Most reach none, and need not wait for a publication that others have begun.
    if added.is_empty() {
        return Ok(());
    }
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
    let elsewhere = elsewhere(agent).await?;
    let uplink = next_hops.iter().flatten().flatten().map(|hop| hop.destination).collect();
    let Fitted { mut routes, all_by_host } = fitted(agent, &via_host, &elsewhere, &uplink);
    let gateways = gateways(&next_hops, &apart(&routes));
    let of_gateways = agent.datapath.tables().set_gateways(gateways)?;
    if of_gateways.repaired {
        repaired(agent, "gateway-repaired", 1);
    }
    if of_gateways.changed {
        let name = |router: Option<IpAddr>| router.map_or("by the kernel's routes".into(), |router| router.to_string());
        let (router, router6) = (name(gateways.v4.map(Into::into)), name(gateways.v6.map(Into::into)));
        tracing::info!(router, router6, "the way to the Internet has changed");
    }
    routes.extend(platform_routes(&agent.services()));
    let left_out_before = agent.datapath.tables().routes_left_out();
    // Thousands of system calls where there are thousands of services: the calls of runtimes do not wait for them.
    let of_routes = tokio::task::block_in_place(|| agent.datapath.tables().set_routes(&routes))?;
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
    note_all_by_host(agent, all_by_host);
    *agent.elsewhere.lock().unwrap_or_else(PoisonError::into_inner) = elsewhere;
    *published(agent) = via_host;
    Ok(())
}

fn fitted(agent: &Agent, via_host: &BTreeSet<IpAddr>, elsewhere: &BTreeSet<IpNet>, uplink: &BTreeSet<IpNet>) -> Fitted {
    let room = agent.datapath.tables().route_room();
    let surroundings = &Surroundings {
        pool: &agent.pool(),
        routing: &agent.routing(),
        host_addresses: agent.node_addresses().union(via_host).copied().collect(),
        services_in_pool: agent.leases.services_in_pool(),
        services: &agent.services(),
        elsewhere,
        uplink,
    };
    fit(surroundings, room.map(|room| room.map(|room| room.saturating_sub(PLATFORM_ROUTES))))
}

fn note_all_by_host(agent: &Agent, now: Vec<&'static str>) {
    let mut before = agent.all_by_host.lock().unwrap_or_else(PoisonError::into_inner);
    if *before != now {
        match room_problem(&now) {
            Some(problem) => tracing::error!("{problem}"),
            None => tracing::info!("the route table has room for all routes again"),
        }
        *before = now;
    }
}

/// Prefixes that the node's routes lead elsewhere than to the uplink. Its own addresses are known by themselves.
pub(crate) async fn elsewhere(agent: &Agent) -> Result<BTreeSet<IpNet>, NetError> {
    let mut prefixes = agent.netlink.prefixes_elsewhere(agent.uplink.index).await?;
    let own = agent.node_addresses();
    prefixes.retain(|prefix| prefix.prefix_len() < prefix.max_prefix_len() || !own.contains(&prefix.addr()));
    Ok(prefixes)
}

/// Others have written to a map that is the agent's.
fn repaired(agent: &Agent, action: &'static str, count: usize) {
    tracing::warn!(action, count, "out of line; repaired");
    agent.count_repair(action);
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
