//! The kernel's own look-up of a route, which knows of metrics and policy rules: for one address it says what it would do.

use std::net::IpAddr;
use std::pin::pin;

use futures::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage, RouteType};

use super::error::NetError;
use super::netlink::Netlink;
use super::route::family_of;

impl Netlink {
    /// Whether an interface of the namespace has this address: the kernel would not send a packet out.
    pub async fn is_local(&self, address: IpAddr) -> Result<bool, NetError> {
        Ok(self.look_up(address).await?.is_some_and(|route| route.header.kind == RouteType::Local))
    }

    /// The interface that a packet of the host to this address would leave by; `None`: by none.
    pub async fn interface_to(&self, address: IpAddr) -> Result<Option<u32>, NetError> {
        let route = self.look_up(address).await?.filter(|route| route.header.kind == RouteType::Unicast);
        Ok(route.and_then(|route| {
            route.attributes.iter().find_map(|attribute| match attribute {
                RouteAttribute::Oif(index) => Some(*index),
                _ => None,
            })
        }))
    }

    async fn look_up(&self, address: IpAddr) -> Result<Option<RouteMessage>, NetError> {
        let mut query = RouteMessage::default();
        query.header.address_family = family_of(address.into());
        query.header.destination_prefix_length = IpNet::from(address).prefix_len();
        query.attributes = vec![RouteAttribute::Destination(address.into())];
        match pin!(self.handle.route().get(query).execute()).try_next().await {
            // There is no way there.
            Err(rtnetlink::Error::NetlinkError(_)) => Ok(None),
            found => found.map_err(|error| NetError::new(format!("looking up the way to {address}"), error)),
        }
    }
}
