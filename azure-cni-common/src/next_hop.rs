//! Where a pod's new flow goes and from which address: the egress table.
//!
//! Right before fast: a destination that the host's stack may want to translate (a cluster service) goes up the stack.
//! While the service prefixes are unknown, that is every destination outside the VNet.

use crate::conntrack::Event;
use crate::flow::{Nat, Path};
use crate::layout::RouteClass;

/// What the agent knows of the cluster's service addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Services {
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

/// For a flow that a pod of this node opens: `class` is what the route table says of the destination, which is no pod
/// of this node.
pub fn from_pod(class: Option<RouteClass>, services: Services, event: Event) -> Egress {
    match class {
        Some(RouteClass::VNET) => Egress { path: Path::WIRE, nat: Nat::KEEP },
        Some(_) => Egress { path: Path::STACK, nat: Nat::UNDECIDED },
        None if services == Services::Known => Egress { path: Path::WIRE, nat: at_the_wire(None, event) },
        None => Egress { path: Path::STACK, nat: Nat::UNDECIDED },
    }
}

/// Whether a pod's packet that is about to leave the uplink changes its source.
pub fn at_the_wire(class: Option<RouteClass>, event: Event) -> Nat {
    match class {
        Some(_) => Nat::KEEP,
        None if event.is_certainly_a_reply() => Nat::KEEP,
        None => Nat::TRANSLATED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conntrack::TcpFlags;

    const SYN: Event = Event::Segment(TcpFlags(TcpFlags::SYN));
    const SYN_ACK: Event = Event::Segment(TcpFlags(TcpFlags::SYN | TcpFlags::ACK));

    #[test]
    fn egress_table() {
        use Services::{Known, Unknown};
        let cases = [
            ("VNet", Some(RouteClass::VNET), Unknown, SYN, Path::WIRE, Nat::KEEP),
            ("VNet, services known", Some(RouteClass::VNET), Known, SYN, Path::WIRE, Nat::KEEP),
            ("the host", Some(RouteClass::HOST), Known, SYN, Path::STACK, Nat::UNDECIDED),
            ("Internet or a service", None, Unknown, SYN, Path::STACK, Nat::UNDECIDED),
            ("Internet", None, Known, SYN, Path::WIRE, Nat::TRANSLATED),
            ("Internet, datagram", None, Known, Event::Datagram, Path::WIRE, Nat::TRANSLATED),
            ("Internet, an answer", None, Known, SYN_ACK, Path::WIRE, Nat::KEEP),
        ];
        for (what, class, services, event, path, nat) in cases {
            assert_eq!(from_pod(class, services, event), Egress { path, nat }, "{what}");
        }
    }

    #[test]
    fn what_leaves_the_uplink_is_translated_only_to_the_internet_and_never_as_an_answer() {
        assert_eq!(at_the_wire(Some(RouteClass::VNET), SYN), Nat::KEEP);
        assert_eq!(at_the_wire(Some(RouteClass::HOST), SYN), Nat::KEEP);
        assert_eq!(at_the_wire(None, SYN), Nat::TRANSLATED);
        assert_eq!(at_the_wire(None, SYN_ACK), Nat::KEEP);
    }
}
