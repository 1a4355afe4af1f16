//! Routes and neighbours.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope,
};

use super::{NetError, Netlink};

/// A unicast route of the main table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteEntry {
    pub destination: Ipv4Net,
    /// None: the destination is on the link.
    pub gateway: Option<Ipv4Addr>,
    pub interface: u32,
    /// What the namespace's own sockets send from; `None` leaves the choice to the kernel.
    pub source: Option<Ipv4Addr>,
}

impl RouteEntry {
    fn to_message(self) -> RouteMessage {
        let mut builder = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(self.destination.network(), self.destination.prefix_len())
            .output_interface(self.interface)
            .protocol(RouteProtocol::Static);
        if let Some(source) = self.source {
            builder = builder.pref_source(source);
        }
        match self.gateway {
            Some(gateway) => builder.gateway(gateway).scope(RouteScope::Universe).build(),
            None => builder.scope(RouteScope::Link).build(),
        }
    }

    fn from_message(message: &RouteMessage) -> Option<Self> {
        let mut destination = Ipv4Addr::UNSPECIFIED;
        let mut gateway = None;
        let mut interface = None;
        let mut source = None;
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(RouteAddress::Inet(address)) => destination = *address,
                RouteAttribute::Gateway(RouteAddress::Inet(address)) => gateway = Some(*address),
                RouteAttribute::Oif(index) => interface = Some(*index),
                RouteAttribute::PrefSource(RouteAddress::Inet(address)) => source = Some(*address),
                _ => {}
            }
        }
        let destination = Ipv4Net::new(destination, message.header.destination_prefix_length).ok()?;
        Some(Self { destination, gateway, interface: interface?, source })
    }
}

/// A permanent neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeighbourEntry {
    pub address: IpAddr,
    pub mac: [u8; 6],
    pub interface: u32,
}

impl Netlink {
    /// Adds the route, in the place of one to the same destination if there is one.
    pub async fn replace_route(&self, route: RouteEntry) -> Result<(), NetError> {
        let replaced = self.handle.route().add(route.to_message()).replace().execute().await;
        replaced.map_err(|error| NetError::new(format!("route to {}", route.destination), error))
    }

    /// A route that is not there is no error.
    pub async fn delete_route(&self, route: RouteEntry) -> Result<(), NetError> {
        match self.handle.route().del(route.to_message()).execute().await {
            Ok(()) => Ok(()),
            Err(error) => match NetError::new(format!("removing the route to {}", route.destination), error) {
                error if error.is_absent() => Ok(()),
                error => Err(error),
            },
        }
    }

    /// The IPv4 routes of the main table.
    pub async fn routes(&self) -> Result<Vec<RouteEntry>, NetError> {
        let mut routes = Vec::new();
        let request = self.handle.route().get(RouteMessageBuilder::<Ipv4Addr>::new().build());
        let all = self.dump(
            || request.execute(),
            |message| {
                if message.header.table == RouteHeader::RT_TABLE_MAIN {
                    routes.extend(RouteEntry::from_message(message));
                }
            },
        );
        all.await.map_err(|error| NetError::new("listing routes", error))?;
        Ok(routes)
    }

    /// Adds a permanent entry, in the place of another for the same address.
    pub async fn replace_neighbour(&self, neighbour: NeighbourEntry) -> Result<(), NetError> {
        let request = self
            .handle
            .neighbours()
            .add(neighbour.interface, neighbour.address)
            .link_layer_address(&neighbour.mac)
            .state(NeighbourState::Permanent)
            .replace();
        request.execute().await.map_err(|error| NetError::new(format!("neighbour {}", neighbour.address), error))
    }

    /// The permanent entries of the namespace.
    pub async fn permanent_neighbours(&self) -> Result<Vec<NeighbourEntry>, NetError> {
        let mut neighbours = Vec::new();
        let all = self.dump(
            || self.handle.neighbours().get().execute(),
            |message| {
                if message.header.state == NeighbourState::Permanent {
                    neighbours.extend(neighbour_from(message));
                }
            },
        );
        all.await.map_err(|error| NetError::new("listing neighbours", error))?;
        Ok(neighbours)
    }
}

fn neighbour_from(message: &NeighbourMessage) -> Option<NeighbourEntry> {
    let mut address = None;
    let mut mac = None;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(found)) => address = Some(IpAddr::V4(*found)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(found)) => address = Some(IpAddr::V6(*found)),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.as_slice().try_into().ok(),
            _ => {}
        }
    }
    Some(NeighbourEntry { address: address?, mac: mac?, interface: message.header.ifindex })
}
