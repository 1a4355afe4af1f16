//! Prefixes that the node's routes lead elsewhere than to the uplink: networks behind a bridge, a tunnel or another NIC, local ones,
//! and what is refused. A stream of their changes.
//!
//! A default route is no such prefix: it says nothing of where the Internet is for pods. Pods' interfaces do not count.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use azure_cni_api::names;
use futures::{Stream, StreamExt};
use ipnet::IpNet;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::route::{RouteAttribute, RouteHeader, RouteMessage, RouteType};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{MulticastGroup, new_multicast_connection};

use super::error::NetError;
use super::link::Link;
use super::netlink::Netlink;
use super::netns::NetnsError;
use super::route::{plain, table_of};

/// Every namespace's own.
const LOOPBACK: u32 = 1;
/// include/uapi/linux/rtnetlink.h.
const LOCAL_TABLE: u32 = 255;

/// What may have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElsewhereChange {
    Route(IpNet),
    /// An interface that is no pod's, with all its routes, or something that was not understood.
    Any,
}

impl Netlink {
    /// The prefixes of both families, without those that the uplink or pods' interfaces lead to.
    pub async fn prefixes_elsewhere(&self, uplink: u32) -> Result<BTreeSet<IpNet>, NetError> {
        let mut found = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            self.each_route(family, |message| found.extend(elsewhere(message, uplink))).await?;
        }
        // After the routes: whose interface has gone since has gone too.
        let links = self.links().await?;
        let is_pods: BTreeMap<u32, bool> =
            links.iter().map(|link| (link.index, names::is_host_interface(&link.name))).collect();
        let leads = |interface: &u32| is_pods.get(interface) == Some(&false);
        let kept = found.into_iter().filter(|(_, interfaces)| interfaces.is_empty() || interfaces.iter().any(leads));
        Ok(kept.map(|(prefix, _)| prefix).collect())
    }

    /// An item for every change that may change [`Self::prefixes_elsewhere`], and for those of pods' routes. Ends with the socket.
    pub fn elsewhere_changes(uplink: u32) -> Result<impl Stream<Item = ElsewhereChange>, NetnsError> {
        // The kernel tells of no route that goes with its interface (net/ipv4/fib_frontend.c, fib_disable_ip).
        let groups = [MulticastGroup::Ipv4Route, MulticastGroup::Ipv6Route, MulticastGroup::Link];
        let (connection, _, messages) = new_multicast_connection(&groups).map_err(NetnsError::Socket)?;
        tokio::spawn(connection);
        let change = move |payload: NetlinkPayload<RouteNetlinkMessage>| match payload {
            NetlinkPayload::InnerMessage(
                RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route),
            ) => elsewhere(&route, uplink).map(|(prefix, _)| ElsewhereChange::Route(prefix)),
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link)) => {
                (!names::is_host_interface(&Link::from_message(&link).name)).then_some(ElsewhereChange::Any)
            }
            // The notice that some messages were lost.
            _ => Some(ElsewhereChange::Any),
        };
        Ok(messages.filter_map(move |(message, _)| futures::future::ready(change(message.payload))))
    }
}

/// The prefix of a route that leads elsewhere, and the interfaces that it may lead to.
fn elsewhere(message: &RouteMessage, uplink: u32) -> Option<(IpNet, Vec<u32>)> {
    let header = &message.header;
    let mut destination = match header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let mut interfaces = Vec::new();
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = plain(address)?,
            RouteAttribute::Oif(index) => interfaces.push(*index),
            RouteAttribute::MultiPath(hops) => interfaces.extend(hops.iter().map(|hop| hop.interface_index)),
            _ => {}
        }
    }
    let table = table_of(message);
    match header.kind {
        // Of several ways one is enough: right before fast.
        RouteType::Unicast if table == u32::from(RouteHeader::RT_TABLE_MAIN) => {
            let had_some = !interfaces.is_empty();
            interfaces.retain(|interface| ![uplink, LOOPBACK].contains(interface));
            if had_some && interfaces.is_empty() {
                return None;
            }
        }
        RouteType::BlackHole | RouteType::Unreachable | RouteType::Prohibit
            if table == u32::from(RouteHeader::RT_TABLE_MAIN) =>
        {
            interfaces.clear();
        }
        RouteType::Local if table == LOCAL_TABLE => interfaces.clear(),
        _ => return None,
    }
    let stays = match destination {
        IpAddr::V4(address) => address.is_loopback() || address.is_multicast(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unicast_link_local() || address.is_multicast(),
    };
    let prefix = IpNet::new(destination, header.destination_prefix_length).ok()?;
    (!stays && prefix.prefix_len() > 0).then_some((prefix, interfaces))
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_route::route::RouteNextHop;

    use super::*;

    const UPLINK: u32 = 2;

    fn route(kind: RouteType, destination: &str, interfaces: &[u32]) -> RouteMessage {
        let destination: IpNet = destination.parse().unwrap();
        let mut message = RouteMessage::default();
        message.header.address_family =
            if destination.addr().is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        message.header.destination_prefix_length = destination.prefix_len();
        message.header.table = if kind == RouteType::Local { 255 } else { RouteHeader::RT_TABLE_MAIN };
        message.header.kind = kind;
        message.attributes = vec![RouteAttribute::Destination(destination.network().into())];
        let hop = |interface: &u32| {
            let mut hop = RouteNextHop::default();
            hop.interface_index = *interface;
            hop
        };
        match interfaces {
            [one] => message.attributes.push(RouteAttribute::Oif(*one)),
            all => message.attributes.push(RouteAttribute::MultiPath(all.iter().map(hop).collect())),
        }
        message
    }

    #[test]
    fn what_leads_elsewhere_than_to_the_uplink() {
        for (kind, destination, interfaces, expected) in [
            (RouteType::Unicast, "172.17.0.0/16", &[7][..], Some(&[7][..])),
            (RouteType::Unicast, "fd00:17::/64", &[7], Some(&[7])),
            (RouteType::Unicast, "10.240.0.0/16", &[UPLINK], None),
            (RouteType::Unicast, "10.9.0.0/16", &[UPLINK, 7], Some(&[7])),
            (RouteType::Unicast, "10.9.0.0/16", &[UPLINK, UPLINK], None),
            (RouteType::Unicast, "10.9.0.0/16", &[1], None),
            (RouteType::Unicast, "0.0.0.0/0", &[7], None),
            (RouteType::Unicast, "::/0", &[7], None),
            (RouteType::Unicast, "fe80::/64", &[7], None),
            (RouteType::Unreachable, "10.9.0.0/16", &[1], Some(&[])),
            (RouteType::BlackHole, "10.9.0.0/16", &[1], Some(&[])),
            (RouteType::Prohibit, "fd00:9::/64", &[1], Some(&[])),
            (RouteType::Unreachable, "::/0", &[1], None),
            (RouteType::Local, "10.9.0.0/16", &[1], Some(&[])),
            (RouteType::Local, "127.0.0.0/8", &[1], None),
            (RouteType::Local, "::1/128", &[1], None),
            (RouteType::Broadcast, "10.9.255.255/32", &[7], None),
        ] {
            let expected = expected.map(|interfaces| (destination.parse().unwrap(), interfaces.to_vec()));
            assert_eq!(elsewhere(&route(kind, destination, interfaces), UPLINK), expected, "{kind:?} {destination}");
        }
        let mut other_table = route(RouteType::Unicast, "172.17.0.0/16", &[7]);
        other_table.header.table = 100;
        assert_eq!(elsewhere(&other_table, UPLINK), None);
    }
}
