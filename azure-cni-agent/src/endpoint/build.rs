//! The two sides of a pod's attachment, given the veth pair that joins them.

use std::time::Duration;

use azure_cni_api::mac::HOST_MAC;
use azure_cni_ipam::Addresses;
use futures::future::{try_join_all, try_join4};
use ipnet::{IpNet, Ipv4Net};

use super::{GATEWAY, gateway_for};
use crate::net::{NeighbourEntry, NetError, Netlink, Netns, NetnsError, RouteEntry, sysctl};

/// The kernel's worker needs microseconds on an idle machine.
const CARRIER_LIMIT: Duration = Duration::from_secs(2);
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);
/// Each is an exchange with the kernel: some tens of microseconds.
const QUICK_LOOKS: u32 = 16;

/// An attachment as it is to be built, or as it stands.
#[derive(Debug, Clone)]
pub struct Endpoint {
    pub addresses: Addresses,
    /// What the host's own sockets reach the pod from.
    pub node_addresses: Addresses,
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
    /// What the pod's namespace holds: a default route for each family, and IPv4's gateway on the link; IPv6's is
    /// link-local, and on the link by itself.
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

    pub fn gateway_neighbours(&self, interface: u32) -> impl Iterator<Item = NeighbourEntry> {
        self.addresses.iter().map(move |address| NeighbourEntry {
            address: gateway_for(address),
            mac: HOST_MAC,
            interface,
        })
    }

    /// How the host's stack reaches the pod. The host veth has no address, so the kernel would take the first that any
    /// interface has, such as that of a node-local DNS cache on `lo`.
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

const GATEWAY_PREFIX: IpNet = IpNet::V4(Ipv4Net::new_assert(GATEWAY, 32));

/// Addresses, routes and neighbours in the pod's namespace, by a socket there.
pub async fn build_pod_side(endpoint: &Endpoint, netns: &Netns, netlink: &Netlink) -> Result<(), EndpointError> {
    let interface = index_of(netlink, &endpoint.pod_interface).await?;
    if endpoint.addresses.v6.is_some() {
        let name = endpoint.pod_interface.clone();
        netns.run(move || settle_ipv6_of_pod(&name)).await??;
    }
    let neighbours = endpoint.gateway_neighbours(interface);
    Ok(furnish(netlink, interface, endpoint.pod_prefixes(), neighbours, endpoint.pod_routes(interface)).await?)
}

/// Sets an interface up and gives it what it is to have. All is said at once, in this order, in which the kernel does it:
/// an answer that is waited for costs as much as what it answers.
async fn furnish(
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

/// To be run in the pod's namespace, before the interface is up: runtimes switch IPv6 off there, and the kernel would
/// listen for routers and hold the link-local address back until it knows that nobody else has it.
fn settle_ipv6_of_pod(name: &str) -> Result<(), EndpointError> {
    for (setting, value) in [("disable_ipv6", "0"), ("accept_ra", "0"), ("accept_dad", "0")] {
        set(name, &["net", "ipv6", "conf", name, setting], value)?;
    }
    Ok(())
}

/// Settings, neighbours and routes on the host. `interface`: the host veth's index.
pub async fn build_host_side(endpoint: &Endpoint, netlink: &Netlink, interface: u32) -> Result<(), EndpointError> {
    let name = &endpoint.host_interface;
    // A pod's packets may come in here and their answers go out elsewhere: the program on the veth checks the source.
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
    Ok(furnish(netlink, interface, [], neighbours, routes).await?)
}

/// Waits until the pod can send, which it can not as soon as both ends are up: its end gets a queue only when a worker of
/// the kernel has seen the carrier come (net/core/link_watch.c), and what is sent before is lost.
pub async fn await_carrier(endpoint: &Endpoint, of_pod: &Netlink) -> Result<(), EndpointError> {
    let name = &endpoint.pod_interface;
    let came = tokio::time::timeout(CARRIER_LIMIT, async {
        for look in 0_u32.. {
            if of_pod.link(name).await?.is_some_and(|link| link.is_running) {
                break;
            }
            // Most often it comes within less than the shortest sleep.
            if look >= QUICK_LOOKS {
                tokio::time::sleep(BETWEEN_LOOKS).await;
            }
        }
        Ok(())
    });
    came.await.unwrap_or_else(|_| Err(EndpointError::NoCarrier { name: name.clone() }))
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
    fn a_pod_has_a_default_route_for_each_family_it_has() {
        let single = ["169.254.1.1/32 via - src -", "0.0.0.0/0 via 169.254.1.1 src -"];
        assert_eq!(texts(endpoint(None, Some("fd00::4")).pod_routes(2)), single);
        let dual = [single[0], single[1], "::/0 via fe80::1234:5678:9abc src -"];
        assert_eq!(texts(endpoint(Some("fd00::5"), None).pod_routes(2)), dual);
        assert_eq!(endpoint(Some("fd00::5"), None).gateway_neighbours(2).count(), 2);
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
