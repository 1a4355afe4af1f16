//! Routes and neighbours, of both families.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};

use super::error::NetError;
use super::netlink::Netlink;

/// A unicast route of the main table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteEntry {
    pub destination: IpNet,
    /// `None`: the destination is on the link.
    pub gateway: Option<IpAddr>,
    pub interface: u32,
    /// What the namespace's own sockets send from; `None` leaves the choice to the kernel.
    pub source: Option<IpAddr>,
}

impl RouteEntry {
    /// The destination of IPv4's default route.
    pub const DEFAULT_V4: IpNet = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0));
    /// The destination of IPv6's default route.
    pub const DEFAULT_V6: IpNet = IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0));

    /// The destination of the default route of the address's family.
    pub const fn default_like(address: IpAddr) -> IpNet {
        match address {
            IpAddr::V4(_) => Self::DEFAULT_V4,
            IpAddr::V6(_) => Self::DEFAULT_V6,
        }
    }

    fn to_message(self) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header.address_family = family_of(self.destination);
        message.header.destination_prefix_length = self.destination.prefix_len();
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::Static;
        message.header.kind = RouteType::Unicast;
        // Routes of IPv6 have no scope: the kernel ignores it.
        message.header.scope = if self.gateway.is_some() { RouteScope::Universe } else { RouteScope::Link };
        message.attributes =
            vec![RouteAttribute::Destination(self.destination.network().into()), RouteAttribute::Oif(self.interface)];
        message.attributes.extend(self.source.map(|source| RouteAttribute::PrefSource(source.into())));
        message.attributes.extend(self.gateway.map(|gateway| RouteAttribute::Gateway(gateway.into())));
        message
    }

    /// `None` if it is not a unicast route of this table.
    fn of_table(table: u32, message: &RouteMessage) -> Option<Self> {
        let header = &message.header;
        if table_of(message) != table || header.kind != RouteType::Unicast {
            return None;
        }
        let mut destination = match header.address_family {
            AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            _ => return None,
        };
        let mut gateway = None;
        let mut interface = None;
        let mut source = None;
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(address) => destination = plain(address)?,
                RouteAttribute::Gateway(address) => gateway = plain(address),
                RouteAttribute::Oif(index) => interface = Some(*index),
                RouteAttribute::PrefSource(address) => source = plain(address),
                _ => {}
            }
        }
        let destination = IpNet::new(destination, header.destination_prefix_length).ok()?;
        Some(Self { destination, gateway, interface: interface?, source })
    }
}

/// Numbers above 255 have room in an attribute only.
pub(super) fn table_of(message: &RouteMessage) -> u32 {
    let named = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    named.unwrap_or(message.header.table.into())
}

pub(super) fn family_of(prefix: IpNet) -> AddressFamily {
    match prefix {
        IpNet::V4(_) => AddressFamily::Inet,
        IpNet::V6(_) => AddressFamily::Inet6,
    }
}

pub(super) fn plain(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
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
    /// Adds the route. Replaces one to the same destination, if there is one.
    pub async fn replace_route(&self, route: RouteEntry) -> Result<(), NetError> {
        let replaced = self.handle.route().add(route.to_message()).replace().execute().await;
        replaced.map_err(|error| NetError::new(format!("route to {}", route.destination), error))
    }

    /// As [`Netlink::replace_route`], in another table than the main one.
    pub async fn replace_route_in(&self, table: u32, route: RouteEntry) -> Result<(), NetError> {
        let mut message = route.to_message();
        message.header.table = RouteHeader::RT_TABLE_UNSPEC;
        message.attributes.push(RouteAttribute::Table(table));
        let replaced = self.handle.route().add(message).replace().execute().await;
        replaced.map_err(|error| NetError::new(format!("route to {} in table {table}", route.destination), error))
    }

    /// The unicast routes of the main table, of both families.
    pub async fn routes(&self) -> Result<Vec<RouteEntry>, NetError> {
        self.routes_in(RouteHeader::RT_TABLE_MAIN.into()).await
    }

    /// The unicast routes of a table, of both families.
    pub async fn routes_in(&self, table: u32) -> Result<Vec<RouteEntry>, NetError> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            self.each_route(family, |message| routes.extend(RouteEntry::of_table(table, message))).await?;
        }
        Ok(routes)
    }

    /// Whether the main table has a default route of the address's family, through one router or several.
    pub async fn has_default_route(&self, like: IpAddr) -> Result<bool, NetError> {
        let mut found = false;
        let is_default = |message: &RouteMessage| {
            message.header.destination_prefix_length == 0
                && message.header.kind == RouteType::Unicast
                && table_of(message) == u32::from(RouteHeader::RT_TABLE_MAIN)
        };
        self.each_route(family_of(like.into()), |message| found |= is_default(message)).await?;
        Ok(found)
    }

    /// Calls `visit` with every route of every table.
    pub(super) async fn each_route(
        &self,
        family: AddressFamily,
        mut visit: impl FnMut(&RouteMessage),
    ) -> Result<(), NetError> {
        let mut query = RouteMessage::default();
        query.header.address_family = family;
        let request = self.handle.route().get(query);
        let all = self.dump(
            || request.execute(),
            |message| {
                // A query for a family that the kernel does not have returns all families (net/core/rtnetlink.c,
                // rtnl_get_link).
                if message.header.address_family == family {
                    visit(message);
                }
            },
        );
        all.await.map_err(|error| NetError::new("listing routes", error))
    }

    /// Adds a permanent entry. Replaces another one for the same address.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn of_main_table(message: &RouteMessage) -> Option<RouteEntry> {
        RouteEntry::of_table(RouteHeader::RT_TABLE_MAIN.into(), message)
    }

    fn entry(destination: &str, gateway: Option<&str>, source: Option<&str>) -> RouteEntry {
        let address = |text: &str| text.parse().unwrap();
        RouteEntry {
            destination: destination.parse().unwrap(),
            gateway: gateway.map(address),
            interface: 7,
            source: source.map(address),
        }
    }

    #[test]
    fn a_route_of_either_family_reads_back_as_written() {
        for route in [
            entry("0.0.0.0/0", Some("169.254.1.1"), None),
            entry("10.240.0.5/32", None, Some("10.240.0.4")),
            entry("::/0", Some("fe80::1234:5678:9abc"), None),
            entry("fd00::5/128", None, Some("fd00::4")),
        ] {
            assert_eq!(of_main_table(&route.to_message()), Some(route));
        }
        let route = entry("10.240.0.5/32", None, None);
        let mut elsewhere = route.to_message();
        elsewhere.header.table = RouteHeader::RT_TABLE_UNSPEC;
        elsewhere.attributes.push(RouteAttribute::Table(0x4000_0001));
        assert_eq!(RouteEntry::of_table(0x4000_0001, &elsewhere), Some(route));
        assert_eq!(of_main_table(&elsewhere), None);
        let mut default = entry("::/0", Some("fe80::1"), None).to_message();
        // As the kernel reports a default route: without a destination, only with a prefix length of 0.
        default.attributes.retain(|attribute| !matches!(attribute, RouteAttribute::Destination(_)));
        assert_eq!(of_main_table(&default).unwrap().destination, RouteEntry::DEFAULT_V6);
    }

    #[test]
    fn routes_of_other_tables_and_kinds_are_not_listed() {
        let route = entry("fd00::5/128", None, None);
        let mut local = route.to_message();
        local.header.table = 255;
        let mut unreachable = route.to_message();
        unreachable.header.kind = RouteType::Unreachable;
        assert_eq!(of_main_table(&local), None);
        assert_eq!(of_main_table(&unreachable), None);
    }
}
