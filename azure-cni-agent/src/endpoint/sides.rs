//! Configures the two sides of an endpoint, given the veth pair that joins them.

use std::{net::Ipv6Addr, time::Duration};

use futures::future::{try_join_all, try_join4};
use ipnet::IpNet;

use super::spec::Endpoint;
use crate::net::{NeighbourEntry, NetError, Netlink, Netns, NetnsError, RouteEntry, sysctl};

/// The kernel's workers need microseconds on an idle machine.
const USABLE_LIMIT: Duration = Duration::from_secs(2);
const POLL_PAUSE: Duration = Duration::from_millis(1);
/// Each is an exchange with the kernel: some tens of microseconds.
const QUICK_POLLS: u32 = 16;

/// A side that could not be configured. What was made so far goes with the veth pair.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    #[error(transparent)]
    Netns(#[from] NetnsError),
    #[error(transparent)]
    Net(#[from] NetError),
    #[error("interface {name} has vanished while it was being set up")]
    Vanished { name: String },
    /// The kernel is too busy to notice; a retry helps.
    #[error("interface {name} in the pod cannot send and receive {USABLE_LIMIT:?} after it was set up")]
    NotUsable { name: String },
    #[error("setting of interface {name}: {source}")]
    Sysctl { name: String, source: sysctl::SysctlError },
}

/// Addresses, routes and neighbours in the pod's namespace, by a socket there.
pub async fn configure_pod_side(endpoint: &Endpoint, netns: &Netns, netlink: &Netlink) -> Result<(), EndpointError> {
    let interface = index_of(netlink, &endpoint.pod_interface).await?;
    if endpoint.addresses.v6.is_some() {
        let name = endpoint.pod_interface.clone();
        netns.run(move || prepare_ipv6_in_pod(&name)).await??;
    }
    let (neighbours, routes) = (endpoint.gateway_neighbours(interface), endpoint.pod_routes(interface));
    let Some(table) = endpoint.table else {
        return Ok(configure_interface(netlink, interface, endpoint.pod_prefixes(), neighbours, routes).await?);
    };
    configure_interface(netlink, interface, endpoint.pod_prefixes(), neighbours, []).await?;
    try_join_all(routes.into_iter().map(|route| netlink.replace_route_in(table, route))).await?;
    try_join_all(endpoint.pod_rules().map(|rule| netlink.add_rule(rule))).await?;
    Ok(())
}

/// Sets an interface up and adds its addresses, neighbours and routes. All requests leave at once, in this order, in which
/// the kernel executes them: waiting for each reply would cost as much as the requests.
async fn configure_interface(
    netlink: &Netlink,
    interface: u32,
    prefixes: impl IntoIterator<Item = IpNet>,
    neighbours: impl IntoIterator<Item = NeighbourEntry>,
    routes: impl IntoIterator<Item = RouteEntry>,
) -> Result<(), NetError> {
    let done = try_join4(
        netlink.set_up(interface),
        try_join_all(prefixes.into_iter().map(|prefix| netlink.add_address(interface, prefix))),
        try_join_all(neighbours.into_iter().map(|neighbour| netlink.replace_neighbour(neighbour))),
        try_join_all(routes.into_iter().map(|route| netlink.replace_route(route))),
    );
    done.await.map(drop)
}

/// Runs in the pod's namespace, before the interface is up. Runtimes switch IPv6 off there; and the kernel would listen
/// for routers, and hold the link-local address back until duplicate address detection has ended.
fn prepare_ipv6_in_pod(name: &str) -> Result<(), EndpointError> {
    for (setting, value) in [("disable_ipv6", "0"), ("accept_ra", "0"), ("accept_dad", "0")] {
        set(name, &["net", "ipv6", "conf", name, setting], value)?;
    }
    Ok(())
}

/// Settings, neighbours and routes on the host. `interface`: the host veth's index.
pub async fn configure_host_side(endpoint: &Endpoint, netlink: &Netlink, interface: u32) -> Result<(), EndpointError> {
    let name = &endpoint.host_interface;
    // A pod's packets may come in here while their replies go out elsewhere: the program on the veth checks the source.
    set(name, &["net", "ipv4", "conf", name, "rp_filter"], "0")?;
    set(name, &["net", "ipv4", "conf", name, "forwarding"], "1")?;
    set(name, &["net", "ipv4", "conf", name, "send_redirects"], "0")?;
    match set(name, &["net", "ipv6", "conf", name, "accept_ra"], "0") {
        // A node without IPv6 has nothing to switch off.
        Err(EndpointError::Sysctl { source, .. }) if source.is_absent() && endpoint.addresses.v6.is_none() => {}
        other => other?,
    }
    if endpoint.addresses.v6.is_some() {
        set(name, &["net", "ipv6", "conf", name, "disable_ipv6"], "0")?;
        set(name, &["net", "ipv6", "conf", name, "forwarding"], "1")?;
    }
    let (neighbours, routes) = (endpoint.pod_neighbours(interface), endpoint.host_routes(interface));
    Ok(configure_interface(netlink, interface, [], neighbours, routes).await?)
}

/// Waits until the pod can send and receive. That is later than the kernel has acknowledged all requests, as its workers do the rest:
/// the pod's end gets a queue when one has seen the carrier (net/core/link_watch.c), and an IPv6 address its route in the local
/// table when another has passed over duplicate address detection (net/ipv6/addrconf.c, addrconf_dad_work). Packets before that
/// are lost.
pub async fn await_usable(name: &str, address6: Option<Ipv6Addr>, of_pod: &Netlink) -> Result<(), EndpointError> {
    let came = tokio::time::timeout(USABLE_LIMIT, async {
        for poll in 0_u32.. {
            if can_send(of_pod, name).await? && can_receive(of_pod, address6).await? {
                break;
            }
            // Most often it comes within less than the shortest sleep.
            if poll >= QUICK_POLLS {
                tokio::time::sleep(POLL_PAUSE).await;
            }
        }
        Ok(())
    });
    came.await.unwrap_or_else(|_| Err(EndpointError::NotUsable { name: name.to_owned() }))
}

async fn can_send(of_pod: &Netlink, name: &str) -> Result<bool, NetError> {
    Ok(of_pod.link(name).await?.is_some_and(|link| link.is_running))
}

async fn can_receive(of_pod: &Netlink, address: Option<Ipv6Addr>) -> Result<bool, NetError> {
    match address {
        Some(address) => of_pod.is_local(address.into()).await,
        None => Ok(true),
    }
}

pub async fn index_of(netlink: &Netlink, name: &str) -> Result<u32, EndpointError> {
    match netlink.link(name).await? {
        Some(link) => Ok(link.index),
        None => Err(EndpointError::Vanished { name: name.to_owned() }),
    }
}

fn set(interface: &str, parts: &[&str], value: &str) -> Result<(), EndpointError> {
    sysctl::write(parts, value).map_err(|source| EndpointError::Sysctl { name: interface.to_owned(), source })
}
