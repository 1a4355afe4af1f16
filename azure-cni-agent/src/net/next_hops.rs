//! The next hops of an interface's packets, from the kernel's routes and rules, and a stream of their changes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures::{Stream, StreamExt};
use ipnet::IpNet;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::route::{RouteAttribute, RouteHeader, RouteMessage, RouteType};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{IpVersion, MulticastGroup, new_multicast_connection};

use super::error::NetError;
use super::netlink::Netlink;
use super::netns::NetnsError;
use super::route::plain;

/// A destination and the next hop of a packet for it that leaves by one interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextHop {
    pub destination: IpNet,
    pub via: Via,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// No router: the destination is on the link.
    Link,
    Router(IpAddr),
    /// One address does not describe it: several routers, none, one of the other family, a tunnel.
    Other,
}

impl Netlink {
    /// The next hops of packets that leave by the interface, of both families. `None` for a family whose policy rules
    /// make them depend on more than the destination.
    pub async fn next_hops(&self, interface: u32) -> Result<[Option<Vec<NextHop>>; 2], NetError> {
        let mut all = [None, None];
        let families = [(AddressFamily::Inet, IpVersion::V4), (AddressFamily::Inet6, IpVersion::V6)];
        for (hops, (family, version)) in all.iter_mut().zip(families) {
            if !self.has_usual_rules(version).await? {
                continue;
            }
            let mut of_family = Vec::new();
            self.each_route(family, |message| of_family.extend(NextHop::from_message(message, interface))).await?;
            *hops = Some(of_family);
        }
        Ok(all)
    }

    /// Whether the policy rules are those of every kernel: all traffic, tables local, main, default.
    async fn has_usual_rules(&self, version: IpVersion) -> Result<bool, NetError> {
        let request = self.handle.rule().get(version);
        let mut usual = true;
        let all = self.dump(|| request.execute(), |rule| usual &= is_usual(rule));
        all.await.map_err(|error| NetError::new("listing policy rules", error))?;
        Ok(usual)
    }

    /// An item for every change that may change [`Self::next_hops`] of the interface. Ends with the socket.
    pub fn next_hop_changes(interface: u32) -> Result<impl Stream<Item = ()>, NetnsError> {
        let groups =
            [MulticastGroup::Ipv4Route, MulticastGroup::Ipv6Route, MulticastGroup::Ipv4Rule, MulticastGroup::Ipv6Rule];
        let (connection, _, messages) = new_multicast_connection(&groups).map_err(NetnsError::Socket)?;
        tokio::spawn(connection);
        let changes = move |payload: NetlinkPayload<RouteNetlinkMessage>| match payload {
            // Pods come and go with routes of their own.
            NetlinkPayload::InnerMessage(
                RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route),
            ) => NextHop::from_message(&route, interface).map(drop),
            // A rule, or the notice that some messages were lost.
            _ => Some(()),
        };
        Ok(messages.filter_map(move |(message, _)| futures::future::ready(changes(message.payload))))
    }
}

impl NextHop {
    /// What a route says about packets that leave by the interface; `None` if nothing.
    fn from_message(message: &RouteMessage, interface: u32) -> Option<Self> {
        let header = &message.header;
        let mut destination = match header.address_family {
            AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            _ => return None,
        };
        let mut table = u32::from(header.table);
        let mut outgoing = None;
        let mut via = Via::Link;
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(address) => destination = plain(address)?,
                RouteAttribute::Table(number) => table = *number,
                RouteAttribute::Oif(index) => outgoing = Some(*index),
                RouteAttribute::Gateway(address) => via = plain(address).map_or(Via::Other, Via::Router),
                RouteAttribute::Via(_) | RouteAttribute::MultiPath(_) | RouteAttribute::Encap(_) => via = Via::Other,
                _ => {}
            }
        }
        let is_in_force = table == u32::from(RouteHeader::RT_TABLE_MAIN) || table == DEFAULT_TABLE;
        // A route that refuses applies whatever the interface is (net/ipv4/fib_trie.c, fib_table_lookup). What that means
        // for a packet that already has an interface, only the kernel knows. IPv6's route of last resort comes after all
        // others.
        let refuses = header.kind != RouteType::Unicast && header.destination_prefix_length > 0;
        let leads_here = outgoing.is_none_or(|outgoing| outgoing == interface);
        if !is_in_force || !(refuses || leads_here) {
            return None;
        }
        let destination = IpNet::new(destination, header.destination_prefix_length).ok()?;
        let via = if header.kind == RouteType::Unicast { via } else { Via::Other };
        Some(Self { destination, via })
    }
}

/// include/uapi/linux/rtnetlink.h: RT_TABLE_DEFAULT.
const DEFAULT_TABLE: u32 = 253;

fn is_usual(rule: &RuleMessage) -> bool {
    let header = &rule.header;
    let narrows = |attribute: &RuleAttribute| {
        !matches!(
            attribute,
            RuleAttribute::Priority(_)
                | RuleAttribute::Table(_)
                | RuleAttribute::Protocol(_)
                | RuleAttribute::SuppressPrefixLen(u32::MAX)
        )
    };
    let table = rule.attributes.iter().find_map(|attribute| match attribute {
        RuleAttribute::Table(table) => Some(*table),
        _ => None,
    });
    header.action == RuleAction::ToTable
        && (header.dst_len, header.src_len, header.tos) == (0, 0, 0)
        && (DEFAULT_TABLE..=255).contains(&table.unwrap_or(header.table.into()))
        && !rule.attributes.iter().any(narrows)
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_route::route::RouteAddress;

    use super::*;

    const UPLINK: u32 = 2;

    fn route(destination: &str, attributes: &[RouteAttribute]) -> RouteMessage {
        let destination: IpNet = destination.parse().unwrap();
        let mut message = RouteMessage::default();
        message.header.address_family =
            if destination.addr().is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        message.header.destination_prefix_length = destination.prefix_len();
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.kind = RouteType::Unicast;
        message.attributes = vec![RouteAttribute::Destination(destination.network().into())];
        message.attributes.extend_from_slice(attributes);
        message
    }

    fn router(address: &str) -> RouteAttribute {
        RouteAttribute::Gateway(address.parse::<IpAddr>().unwrap().into())
    }

    fn via(message: &RouteMessage) -> Option<Via> {
        NextHop::from_message(message, UPLINK).map(|hop| hop.via)
    }

    #[test]
    fn what_leaves_by_another_interface_says_nothing() {
        let here = route("10.0.0.0/8", &[RouteAttribute::Oif(UPLINK), router("10.240.0.1")]);
        assert_eq!(via(&here), Some(Via::Router("10.240.0.1".parse().unwrap())));
        assert_eq!(via(&route("10.0.0.0/8", &[RouteAttribute::Oif(7), router("10.240.0.1")])), None);
        assert_eq!(via(&route("10.240.0.0/16", &[RouteAttribute::Oif(UPLINK)])), Some(Via::Link));
    }

    #[test]
    fn what_one_address_does_not_tell_is_other() {
        assert_eq!(via(&route("10.0.0.0/8", &[RouteAttribute::MultiPath(vec![])])), Some(Via::Other));
        let odd = RouteAttribute::Gateway(RouteAddress::Other(vec![1, 2, 3]));
        assert_eq!(via(&route("10.0.0.0/8", &[RouteAttribute::Oif(UPLINK), odd])), Some(Via::Other));
        let mut refusing = route("10.0.0.0/8", &[]);
        refusing.header.kind = RouteType::BlackHole;
        assert_eq!(via(&refusing), Some(Via::Other));
    }

    #[test]
    fn routes_that_refuse_count_by_whatever_interface_and_the_last_resort_of_ipv6_does_not() {
        let mut refusing = route("fd00:1::/32", &[RouteAttribute::Oif(1)]);
        refusing.header.kind = RouteType::Unreachable;
        assert_eq!(via(&refusing), Some(Via::Other));
        let mut last = route("::/0", &[RouteAttribute::Oif(1)]);
        last.header.kind = RouteType::Unreachable;
        assert_eq!(via(&last), None);
    }

    #[test]
    fn only_the_tables_of_the_usual_rules_count() {
        let mut other = route("10.0.0.0/8", &[RouteAttribute::Oif(UPLINK), router("10.240.0.1")]);
        other.attributes.push(RouteAttribute::Table(1000));
        other.header.table = 252;
        assert_eq!(via(&other), None);
    }

    #[test]
    fn rules_that_look_at_more_than_the_destination_are_not_usual() {
        let mut rule = RuleMessage::default();
        rule.header.action = RuleAction::ToTable;
        rule.header.table = 254;
        rule.attributes = vec![RuleAttribute::Table(254), RuleAttribute::Priority(32766)];
        assert!(is_usual(&rule));
        for attribute in [RuleAttribute::FwMark(1), RuleAttribute::Iifname("x".into()), RuleAttribute::L3MDev(true)] {
            let mut narrow = rule.clone();
            narrow.attributes.push(attribute);
            assert!(!is_usual(&narrow), "{narrow:?}");
        }
        let mut elsewhere = rule.clone();
        elsewhere.attributes = vec![RuleAttribute::Table(100)];
        assert!(!is_usual(&elsewhere));
        let mut source = rule;
        source.header.src_len = 24;
        assert!(!is_usual(&source));
    }
}
