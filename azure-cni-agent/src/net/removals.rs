//! A stream of the interfaces that go.

use futures::{Stream, StreamExt};
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::{MulticastGroup, new_multicast_connection};

use super::netlink::Netlink;
use super::netns::NetnsError;

/// An interface that is gone. A later one may have its name, and none its number for a long time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemovedLink {
    pub name: String,
    pub index: u32,
}

impl Netlink {
    /// An item for every interface that goes from the namespace. The kernel drops some if they come too fast; the stream then goes
    /// on. Ends with the socket.
    pub fn removed_links() -> Result<impl Stream<Item = RemovedLink>, NetnsError> {
        let (connection, _, messages) =
            new_multicast_connection(&[MulticastGroup::Link]).map_err(NetnsError::Socket)?;
        tokio::spawn(connection);
        let removed = |payload: NetlinkPayload<RouteNetlinkMessage>| match payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link)) => {
                let index = link.header.index;
                link.attributes.into_iter().find_map(|attribute| match attribute {
                    LinkAttribute::IfName(name) => Some(RemovedLink { name, index }),
                    _ => None,
                })
            }
            _ => None,
        };
        Ok(messages.filter_map(move |(message, _)| futures::future::ready(removed(message.payload))))
    }
}
