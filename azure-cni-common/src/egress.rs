//! What a pod may reach, where its new flow goes, and from which address: the egress table.
//!
//! Right before fast: a destination that the host's stack may want to translate (a cluster service) goes up the stack.
//! While the service prefixes are unknown, that is every destination outside the VNet.

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::conntrack::Event;
use crate::drop_reason::DropReason;
use crate::endpoint::{EndpointEntry, EndpointFlags};
use crate::family::{Ipv4, TCP};
use crate::flow::{Nat, Path, Tuple};

/// What is reached at a prefix. Maps `ROUTES4` and `ROUTES6`: longest prefix match → class.
///
/// A destination that no prefix covers is the Internet.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
pub struct RouteClass(pub u32);

impl RouteClass {
    /// Of a destination that no prefix covers. Not an `Option`: the programs pass it on as one word that is always set.
    pub const INTERNET: Self = Self(0);
    /// The VNet, peered networks, on-premises: reached with the pod's own address, on the short way.
    pub const VNET: Self = Self(1);
    /// The node's own addresses, node-local services, cluster service prefixes: the host's stack decides.
    pub const HOST: Self = Self(2);
    /// Services of the platform that answer the NIC's primary address only; never a service of the cluster.
    pub const PLATFORM: Self = Self(3);
    /// An address of this node's pool: while a pod has it, the pod is found before the route is.
    pub const POOL: Self = Self(4);
    /// Of the VNet, and rules or routes of the node do something with it: the host's stack decides, as for
    /// [`RouteClass::HOST`]. What it leaves alone is the VNet's.
    pub const VNET_BY_HOST: Self = Self(5);
    /// The same outside of the VNet: what the host's stack leaves alone is the Internet's.
    pub const INTERNET_BY_HOST: Self = Self(6);
    /// An address of this node's pool that a service has, and no pod: what the host's stack leaves alone is nobody's.
    pub const POOL_BY_HOST: Self = Self(7);

    /// Reached through the host's stack with the pod's own address, so that any packet of the pod may make the flow again.
    #[inline(always)]
    pub fn is_hosts(self) -> bool {
        [Self::HOST, Self::VNET_BY_HOST, Self::POOL_BY_HOST].contains(&self)
    }

    /// Given that no pod has the address: a packet to it that leaves the node comes back, and so on until its time is over.
    #[inline(always)]
    pub fn is_nobodys_at_the_wire(self) -> bool {
        self == Self::POOL || self == Self::POOL_BY_HOST
    }
}

/// What the agent knows of the cluster's service addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServicePrefixes {
    /// Any address outside the VNet may be a service.
    Unknown,
    /// They are in the route table as [`RouteClass::HOST`].
    Known,
}

/// The way and the source address of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Egress {
    pub path: Path,
    /// [`Nat::TRANSLATED`] asks for a port.
    pub nat: Nat,
}

/// Which sources may be translated at all: of the family, and of the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnatPolicy {
    /// The family's packets to the Internet are translated (IPv6 only where it is asked for).
    pub is_on: bool,
    /// The pod has a public address of its own, or its network opts out.
    pub pod_keeps_source: bool,
}

impl SnatPolicy {
    /// Of a pod's packets; `is_on` is of their family.
    pub fn of(pod: &EndpointEntry, is_on: bool) -> Self {
        Self { is_on, pod_keeps_source: pod.flags.has(EndpointFlags::KEEP_SOURCE) }
    }
}

/// For a flow that a pod of this node opens: `class` is what the route table says of the destination, which is no pod
/// of this node.
#[inline(always)]
pub fn from_pod(class: RouteClass, services: ServicePrefixes, snat: SnatPolicy, event: Event) -> Egress {
    match class {
        RouteClass::VNET => Egress { path: Path::WIRE, nat: Nat::KEEP },
        RouteClass::HOST | RouteClass::VNET_BY_HOST | RouteClass::INTERNET_BY_HOST | RouteClass::POOL_BY_HOST => {
            Egress { path: Path::STACK, nat: Nat::UNDECIDED }
        }
        RouteClass::INTERNET if services == ServicePrefixes::Unknown => {
            Egress { path: Path::STACK, nat: Nat::UNDECIDED }
        }
        _ => Egress { path: Path::WIRE, nat: at_the_wire(class, snat, event) },
    }
}

/// Whether a pod's packet that is about to leave the uplink, and belongs to no known flow, changes its source. What does
/// not open a flow never does: it may be a reply.
#[inline(always)]
pub fn at_the_wire(class: RouteClass, snat: SnatPolicy, event: Event) -> Nat {
    let is_translated = match class {
        RouteClass::PLATFORM => snat.is_on,
        RouteClass::INTERNET | RouteClass::INTERNET_BY_HOST => snat.is_on && !snat.pod_keeps_source,
        _ => false,
    };
    if is_translated && event.opens() { Nat::TRANSLATED } else { Nat::KEEP }
}

/// The wire server: DNS, DHCP, health probes and the host agent.
pub const WIRE_SERVER: Ipv4 = Ipv4::new(168, 63, 129, 16);

/// The host agent's ports. They hand out the VM's certificates and extension settings: only the VM may ask.
const HOST_AGENT_PORTS: [u16; 2] = [80, 32526];

/// The Instance Metadata Service, at TCP 80.
pub const METADATA_SERVICE: Ipv4 = Ipv4::new(169, 254, 169, 254);

/// Refuses what pods must not reach.
pub fn check_ipv4(tuple: &Tuple<Ipv4>, block_metadata: bool) -> Result<(), DropReason> {
    if tuple.protocol != TCP {
        return Ok(());
    }
    let port = tuple.destination_port.to_host();
    if tuple.destination == WIRE_SERVER && (port == HOST_AGENT_PORTS[0] || port == HOST_AGENT_PORTS[1]) {
        return Err(DropReason::PlatformBlocked);
    }
    if block_metadata && tuple.destination == METADATA_SERVICE && port == 80 {
        return Err(DropReason::MetadataBlocked);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::family::{Be16, UDP};
    use crate::tcp::{Segment, TcpFlags};

    const SYN: Event = Event::segment(&Segment::bare(TcpFlags::SYN));
    const ON: SnatPolicy = SnatPolicy { is_on: true, pod_keeps_source: false };
    const OFF: SnatPolicy = SnatPolicy { is_on: false, pod_keeps_source: false };
    const OWN: SnatPolicy = SnatPolicy { is_on: true, pod_keeps_source: true };
    const UNASKED_FOR: [Event; 5] = [
        Event::segment(&Segment::bare(TcpFlags::SYN | TcpFlags::ACK)),
        Event::segment(&Segment::bare(TcpFlags::ACK)),
        Event::segment(&Segment::bare(TcpFlags::RST)),
        Event::REPLY,
        Event::FRAGMENT,
    ];

    #[test]
    fn egress_table() {
        use ServicePrefixes::{Known, Unknown};
        let (vnet, host, platform) = (RouteClass::VNET, RouteClass::HOST, RouteClass::PLATFORM);
        let internet = RouteClass::INTERNET;
        let cases = [
            ("VNet", vnet, Unknown, ON, Path::WIRE, Nat::KEEP),
            ("VNet, services known", vnet, Known, ON, Path::WIRE, Nat::KEEP),
            ("the host", host, Known, ON, Path::STACK, Nat::UNDECIDED),
            ("VNet, by rules of the node", RouteClass::VNET_BY_HOST, Known, ON, Path::STACK, Nat::UNDECIDED),
            ("a service with an address of the pool", RouteClass::POOL_BY_HOST, Known, ON, Path::STACK, Nat::UNDECIDED),
            ("Internet, by rules of the node", RouteClass::INTERNET_BY_HOST, Known, ON, Path::STACK, Nat::UNDECIDED),
            ("platform", platform, Unknown, ON, Path::WIRE, Nat::TRANSLATED),
            ("platform, from a pod with a public address", platform, Known, OWN, Path::WIRE, Nat::TRANSLATED),
            ("Internet or a service", internet, Unknown, ON, Path::STACK, Nat::UNDECIDED),
            ("Internet", internet, Known, ON, Path::WIRE, Nat::TRANSLATED),
            ("Internet, from a pod with a public address", internet, Known, OWN, Path::WIRE, Nat::KEEP),
            ("Internet, family that is not translated", internet, Known, OFF, Path::WIRE, Nat::KEEP),
        ];
        for (what, class, services, snat, path, nat) in cases {
            for event in [SYN, Event::DATAGRAM] {
                assert_eq!(from_pod(class, services, snat, event), Egress { path, nat }, "{what}");
            }
            for event in UNASKED_FOR {
                let egress = from_pod(class, services, snat, event);
                assert_eq!(egress.path, path, "{what}");
                assert_ne!(egress.nat, Nat::TRANSLATED, "{what}: {event:?} may be a reply");
            }
        }
    }

    #[test]
    fn what_went_up_the_stack_is_translated_at_the_wire_if_its_destination_asks_for_it() {
        for (class, snat, nat) in [
            (RouteClass::VNET, ON, Nat::KEEP),
            (RouteClass::HOST, ON, Nat::KEEP),
            (RouteClass::VNET_BY_HOST, ON, Nat::KEEP),
            (RouteClass::POOL_BY_HOST, ON, Nat::KEEP),
            (RouteClass::INTERNET_BY_HOST, ON, Nat::TRANSLATED),
            (RouteClass::INTERNET_BY_HOST, OWN, Nat::KEEP),
            (RouteClass::PLATFORM, OWN, Nat::TRANSLATED),
            (RouteClass::INTERNET, ON, Nat::TRANSLATED),
            (RouteClass::INTERNET, OWN, Nat::KEEP),
            (RouteClass::INTERNET, OFF, Nat::KEEP),
        ] {
            assert_eq!(at_the_wire(class, snat, SYN), nat, "{class:?} {snat:?}");
            for event in UNASKED_FOR {
                assert_eq!(at_the_wire(class, snat, event), Nat::KEEP, "{event:?}");
            }
        }
    }

    #[test]
    fn only_the_host_agent_is_refused_and_the_metadata_service_where_it_is_asked_for() {
        use DropReason::{MetadataBlocked, PlatformBlocked};
        let cases = [
            (WIRE_SERVER, TCP, 80, Some(PlatformBlocked), Some(PlatformBlocked)),
            (WIRE_SERVER, TCP, 32526, Some(PlatformBlocked), Some(PlatformBlocked)),
            (WIRE_SERVER, TCP, 53, None, None),
            (WIRE_SERVER, UDP, 53, None, None),
            (WIRE_SERVER, UDP, 80, None, None),
            (METADATA_SERVICE, TCP, 80, None, Some(MetadataBlocked)),
            (METADATA_SERVICE, TCP, 81, None, None),
            (METADATA_SERVICE, UDP, 80, None, None),
            (Ipv4::new(168, 63, 129, 17), TCP, 80, None, None),
        ];
        for (destination, protocol, port, refused, refused_with_metadata) in cases {
            let tuple = Tuple {
                source: Ipv4::new(10, 240, 0, 5),
                destination,
                source_port: Be16::from_host(40_000),
                destination_port: Be16::from_host(port),
                protocol,
            };
            assert_eq!(check_ipv4(&tuple, false).err(), refused, "{tuple:?}");
            assert_eq!(check_ipv4(&tuple, true).err(), refused_with_metadata, "{tuple:?}");
        }
    }
}
