//! The two sides of a pod's attachment, given the veth pair that joins them.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};

use super::{GATEWAY, HOST_MAC};
use crate::net::{NeighbourEntry, NetError, Netlink, Netns, NetnsError, RouteEntry, sysctl};

/// The kernel's worker needs microseconds on an idle machine.
const CARRIER_LIMIT: Duration = Duration::from_secs(2);
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);

/// An attachment as it is to be built, or as it stands.
#[derive(Debug, Clone)]
pub struct Endpoint {
    pub address: Ipv4Addr,
    /// The address that the host's own sockets reach the pod from.
    pub node_address: Ipv4Addr,
    pub host_interface: String,
    pub pod_interface: String,
    pub pod_mac: [u8; 6],
    /// Bytes.
    pub mtu: u32,
}

/// A side that could not be built. What was made so far goes with the veth pair.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    #[error(transparent)]
    Netns(#[from] NetnsError),
    #[error(transparent)]
    Net(#[from] NetError),
    #[error("interface {name} has vanished while it was being set up")]
    Vanished { name: String },
    /// The kernel is too busy to notice; a retry helps.
    #[error("interface {name} in the pod cannot send {CARRIER_LIMIT:?} after it was set up")]
    NoCarrier { name: String },
    #[error("setting of interface {name}: {source}")]
    Sysctl { name: String, source: sysctl::SysctlError },
}

impl Endpoint {
    /// What the pod's namespace holds: gateway on the link, default route, and the gateway's neighbour.
    pub fn pod_routes(&self, interface: u32) -> [RouteEntry; 2] {
        [
            RouteEntry { destination: host_prefix(GATEWAY), gateway: None, interface, source: None },
            RouteEntry { destination: Ipv4Net::default(), gateway: Some(GATEWAY), interface, source: None },
        ]
    }

    pub fn gateway_neighbour(&self, interface: u32) -> NeighbourEntry {
        NeighbourEntry { address: IpAddr::V4(GATEWAY), mac: HOST_MAC, interface }
    }

    /// How the host's stack reaches the pod. The host veth has no address, so the kernel would take the first that any
    /// interface has, such as that of a node-local DNS cache on `lo`.
    pub fn host_route(&self, interface: u32) -> RouteEntry {
        let destination = host_prefix(self.address);
        RouteEntry { destination, gateway: None, interface, source: Some(self.node_address) }
    }

    pub fn pod_neighbour(&self, interface: u32) -> NeighbourEntry {
        NeighbourEntry { address: IpAddr::V4(self.address), mac: self.pod_mac, interface }
    }

    pub fn pod_prefix(&self) -> IpNet {
        IpNet::V4(host_prefix(self.address))
    }
}

fn host_prefix(address: Ipv4Addr) -> Ipv4Net {
    Ipv4Net::from(address)
}

/// Address, routes and neighbour in the pod's namespace.
pub async fn build_pod_side(endpoint: &Endpoint, netns: &Netns) -> Result<(), EndpointError> {
    let netlink = Netlink::inside(netns).await?;
    let interface = index_of(&netlink, &endpoint.pod_interface).await?;
    netlink.set_up(interface).await?;
    netlink.add_address(interface, endpoint.pod_prefix()).await?;
    netlink.replace_neighbour(endpoint.gateway_neighbour(interface)).await?;
    for route in endpoint.pod_routes(interface) {
        netlink.replace_route(route).await?;
    }
    Ok(())
}

/// Settings, neighbour and route on the host. Returns the host veth's index.
pub async fn build_host_side(endpoint: &Endpoint, netlink: &Netlink) -> Result<u32, EndpointError> {
    let name = &endpoint.host_interface;
    let interface = index_of(netlink, name).await?;
    netlink.set_up(interface).await?;
    // A pod's packets may come in here and their answers go out elsewhere: the program on the veth checks the source.
    set(name, &["net", "ipv4", "conf", name, "rp_filter"], "0")?;
    set(name, &["net", "ipv4", "conf", name, "forwarding"], "1")?;
    set(name, &["net", "ipv4", "conf", name, "send_redirects"], "0")?;
    match set(name, &["net", "ipv6", "conf", name, "accept_ra"], "0") {
        // A node without IPv6 has nothing to switch off.
        Err(EndpointError::Sysctl { source, .. }) if source.is_absent() => {}
        other => other?,
    }
    netlink.replace_neighbour(endpoint.pod_neighbour(interface)).await?;
    netlink.replace_route(endpoint.host_route(interface)).await?;
    Ok(interface)
}

/// Waits until the pod can send, which it can not as soon as both ends are up: its end gets a queue only when a worker of
/// the kernel has seen the carrier come (net/core/link_watch.c), and what is sent before is lost.
pub async fn await_carrier(endpoint: &Endpoint, netns: &Netns) -> Result<(), EndpointError> {
    let name = &endpoint.pod_interface;
    let netlink = Netlink::inside(netns).await?;
    let came = tokio::time::timeout(CARRIER_LIMIT, async {
        while !netlink.link(name).await?.is_some_and(|link| link.is_running) {
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
        Ok(())
    });
    came.await.unwrap_or_else(|_| Err(EndpointError::NoCarrier { name: name.clone() }))
}

async fn index_of(netlink: &Netlink, name: &str) -> Result<u32, EndpointError> {
    match netlink.link(name).await? {
        Some(link) => Ok(link.index),
        None => Err(EndpointError::Vanished { name: name.to_owned() }),
    }
}

fn set(interface: &str, parts: &[&str], value: &str) -> Result<(), EndpointError> {
    sysctl::write(parts, value).map_err(|source| EndpointError::Sysctl { name: interface.to_owned(), source })
}
