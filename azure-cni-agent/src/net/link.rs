//! Interfaces.

use futures::{Stream, StreamExt, TryStreamExt};
use ipnet::IpNet;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope};
use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth, MulticastGroup, new_multicast_connection};

use super::error::NetError;
use super::netlink::Netlink;
use super::netns::{Netns, NetnsError};

/// What the kernel reports about an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    pub mac: [u8; 6],
    /// Bytes.
    pub mtu: u32,
    /// Switched on.
    pub is_up: bool,
    /// Switched on, and the kernel lets packets out.
    pub is_running: bool,
    pub is_veth: bool,
    /// Zero unless it was set.
    pub group: u32,
    /// Free text that a program has set on it.
    pub alias: Option<String>,
    /// The other end of a veth, if that is in another namespace.
    pub peer: Option<Peer>,
}

/// An interface of another namespace, as the kernel names it here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    pub netns: i32,
    pub index: u32,
}

impl Link {
    /// `eth0`, as it is on most VMs.
    #[cfg(test)]
    pub fn nic(index: u32, mac: [u8; 6]) -> Self {
        Self {
            index,
            name: "eth0".to_owned(),
            mac,
            mtu: 1500,
            is_up: true,
            is_running: true,
            is_veth: false,
            group: 0,
            alias: None,
            peer: None,
        }
    }

    pub(super) fn from_message(message: &LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            mac: [0; 6],
            mtu: 0,
            is_up: message.header.flags.contains(LinkFlags::Up),
            is_running: message.header.flags.contains(LinkFlags::Running),
            is_veth: false,
            group: 0,
            alias: None,
            peer: None,
        };
        let (mut peer_netns, mut peer_index) = (None, None);
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Group(group) => link.group = *group,
                LinkAttribute::IfAlias(alias) => link.alias = Some(alias.clone()),
                LinkAttribute::LinkInfo(infos) => link.is_veth = infos.contains(&LinkInfo::Kind(InfoKind::Veth)),
                LinkAttribute::Address(address) => link.mac = address.as_slice().try_into().unwrap_or_default(),
                LinkAttribute::Link(index) => peer_index = Some(*index),
                LinkAttribute::LinkNetNsId(netns) => peer_netns = Some(*netns),
                _ => {}
            }
        }
        link.peer = peer_netns.zip(peer_index).map(|(netns, index)| Peer { netns, index });
        link
    }
}

/// A veth pair with one end here and one in a pod.
#[derive(Debug)]
pub struct VethSpec<'a> {
    pub host_name: &'a str,
    pub host_mac: [u8; 6],
    /// Of the host's end.
    pub host_group: u32,
    pub pod_name: &'a str,
    pub pod_mac: [u8; 6],
    pub pod_netns: &'a Netns,
    /// Bytes, both ends.
    pub mtu: u32,
}

impl Netlink {
    /// Makes the pair in one exchange, the pod's end directly in the pod's namespace under its final name. Both ends are
    /// down: a veth cannot go up before it has its peer (drivers/net/veth.c, veth_open).
    ///
    /// Fails with [`NetError::exists`] if either name is taken in its namespace.
    pub async fn create_veth(&self, spec: &VethSpec<'_>) -> Result<(), NetError> {
        let peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(spec.pod_name)
            .address(spec.pod_mac.to_vec())
            .mtu(spec.mtu)
            .setns_by_fd(spec.pod_netns.as_raw_fd())
            .build();
        let pair = LinkMessageBuilder::<LinkVeth>::new(spec.host_name, spec.pod_name)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .address(spec.host_mac.to_vec())
            .link_group(spec.host_group)
            .mtu(spec.mtu)
            .build();
        let made = self.handle.link().add(pair).execute().await;
        made.map_err(|error| NetError::new(format!("making veth {} and {}", spec.host_name, spec.pod_name), error))
    }

    pub async fn link(&self, name: &str) -> Result<Option<Link>, NetError> {
        self.get_link(self.handle.link().get().match_name(name), name).await
    }

    pub async fn link_by_index(&self, index: u32) -> Result<Option<Link>, NetError> {
        self.get_link(self.handle.link().get().match_index(index), &format!("number {index}")).await
    }

    /// The other end of a veth, without entering its namespace.
    pub async fn peer(&self, peer: Peer) -> Result<Option<Link>, NetError> {
        let mut request = self.handle.link().get().match_index(peer.index);
        request.message_mut().attributes.push(LinkAttribute::IfNetnsId(peer.netns));
        self.get_link(request, &format!("number {} of namespace number {}", peer.index, peer.netns)).await
    }

    async fn get_link(&self, request: rtnetlink::LinkGetRequest, what: &str) -> Result<Option<Link>, NetError> {
        let found = request.execute().try_next().await;
        match found.map_err(|error| NetError::new(format!("looking up interface {what}"), error)) {
            Ok(message) => Ok(message.as_ref().map(Link::from_message)),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All interfaces of the namespace.
    pub async fn links(&self) -> Result<Vec<Link>, NetError> {
        let mut links = Vec::new();
        let all = self.dump(|| self.handle.link().get().execute(), |message| links.push(Link::from_message(message)));
        all.await.map_err(|error| NetError::new("listing interfaces", error))?;
        Ok(links)
    }

    /// Removes an interface, and with a veth its peer. Succeeds if there is none.
    pub async fn delete_link(&self, name: &str) -> Result<(), NetError> {
        match self.link(name).await? {
            Some(link) => self.delete_link_by_index(link.index).await,
            None => Ok(()),
        }
    }

    /// Removes the interface that had this number when it was looked up. A later one with the same name is not touched.
    pub async fn delete_link_by_index(&self, index: u32) -> Result<(), NetError> {
        match NetError::of(format!("removing interface number {index}"), delete_on_own_socket(index).await) {
            Err(error) if error.is_absent() => Ok(()),
            other => other,
        }
    }

    /// Marks an interface with its owner: see [`Link::group`] and [`Link::alias`].
    pub async fn label_link(&self, name: &str, group: u32, alias: &str) -> Result<(), NetError> {
        let label = LinkUnspec::new_with_name(name).link_group(group).alias(alias).build();
        let done = self.handle.link().set(label).execute().await;
        done.map_err(|error| NetError::new(format!("labelling interface {name}"), error))
    }

    pub async fn set_mac(&self, index: u32, mac: [u8; 6]) -> Result<(), NetError> {
        let link = LinkUnspec::new_with_index(index).address(mac.to_vec()).build();
        let done = self.handle.link().set(link).execute().await;
        done.map_err(|error| NetError::new(format!("setting the MAC address of interface number {index}"), error))
    }

    pub async fn set_up(&self, index: u32) -> Result<(), NetError> {
        let up = LinkUnspec::new_with_index(index).up().build();
        let done = self.handle.link().set(up).execute().await;
        done.map_err(|error| NetError::new(format!("setting interface number {index} up"), error))
    }

    /// An IPv6 address can be used at once: duplicate address detection (RFC 4862 section 5.4), which takes a second, is
    /// skipped. The lease keeps the address unique.
    pub async fn add_address(&self, index: u32, address: IpNet) -> Result<(), NetError> {
        let mut request = self.handle.address().add(index, address.addr(), address.prefix_len());
        if address.addr().is_ipv6() {
            request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        }
        let added = request.execute().await;
        added.map_err(|error| NetError::new(format!("giving {address} to interface number {index}"), error))
    }

    /// Addresses of one interface, or of all.
    pub async fn addresses(&self, index: Option<u32>) -> Result<Vec<IpNet>, NetError> {
        let mut addresses = Vec::new();
        let all = self.dump(
            || self.handle.address().get().execute(),
            |message| {
                if index.is_none_or(|index| message.header.index == index) {
                    addresses.extend(address_from(message));
                }
            },
        );
        all.await.map_err(|error| NetError::new("listing addresses", error))?;
        Ok(addresses)
    }
}

impl Netlink {
    /// An item for every change of interfaces of this name and of their addresses, and for each address of another interface but
    /// pods'. A new interface of the name counts too. Ends with the socket.
    pub fn uplink_changes(name: &str) -> Result<impl Stream<Item = ()> + use<>, NetnsError> {
        let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
        let (connection, _, messages) = new_multicast_connection(&groups).map_err(NetnsError::Socket)?;
        tokio::spawn(connection);
        let name = name.to_owned();
        let changes = move |payload: NetlinkPayload<RouteNetlinkMessage>| match payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link)) => {
                (Link::from_message(&link).name == name).then_some(())
            }
            // The link-local addresses of pods' interfaces come and go with the pods.
            NetlinkPayload::InnerMessage(
                RouteNetlinkMessage::NewAddress(address) | RouteNetlinkMessage::DelAddress(address),
            ) => (address.header.scope != AddressScope::Link).then_some(()),
            // The notice that some messages were lost.
            _ => Some(()),
        };
        Ok(messages.filter_map(move |(message, _)| futures::future::ready(changes(message.payload))))
    }
}

/// On a point-to-point interface, the address of its own end.
fn address_from(message: &AddressMessage) -> Option<IpNet> {
    let own = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let address = own.or_else(|| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    });
    IpNet::new(address?, message.header.prefix_len).ok()
}

/// Removes an interface of the process's own namespace, on a separate socket and thread. The kernel needs tens of
/// milliseconds to release an interface (net/core/dev.c, netdev_run_todo), and serves the requests of one socket one by
/// one.
async fn delete_on_own_socket(index: u32) -> Result<(), rtnetlink::Error> {
    let deleted = tokio::task::spawn_blocking(move || {
        let failed = |error: std::io::Error| rtnetlink::Error::NamespaceError(error.to_string());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(failed)?;
        runtime.block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection().map_err(failed)?;
            tokio::spawn(connection);
            handle.link().del(index).execute().await
        })
    });
    deleted.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}
