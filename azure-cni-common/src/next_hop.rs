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

/// Which sources may be translated at all: of the family, and of the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// The family's packets to the Internet are translated (IPv6 only where it is asked for).
    pub is_on: bool,
    /// The pod has a public address of its own, or its network opts out.
    pub pod_keeps_source: bool,
}

/// For a flow that a pod of this node opens: `class` is what the route table says of the destination, which is no pod
/// of this node.
pub fn from_pod(class: Option<RouteClass>, services: Services, translation: Translation, event: Event) -> Egress {
    match class {
        Some(RouteClass::VNET) => Egress { path: Path::WIRE, nat: Nat::KEEP },
        Some(RouteClass::HOST) => Egress { path: Path::STACK, nat: Nat::UNDECIDED },
        None if services == Services::Unknown => Egress { path: Path::STACK, nat: Nat::UNDECIDED },
        _ => Egress { path: Path::WIRE, nat: at_the_wire(class, translation, event) },
    }
}

/// Whether a pod's packet that is about to leave the uplink, and belongs to no known flow, changes its source. What does
/// not open a flow never does: it may be an answer.
pub fn at_the_wire(class: Option<RouteClass>, translation: Translation, event: Event) -> Nat {
    let is_translated = match class {
        Some(RouteClass::PLATFORM) => translation.is_on,
        Some(_) => false,
        None => translation.is_on && !translation.pod_keeps_source,
    };
    if is_translated && event.opens() { Nat::TRANSLATED } else { Nat::KEEP }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conntrack::TcpFlags;

    const SYN: Event = Event::Segment(TcpFlags(TcpFlags::SYN));
    const ON: Translation = Translation { is_on: true, pod_keeps_source: false };
    const OFF: Translation = Translation { is_on: false, pod_keeps_source: false };
    const OWN: Translation = Translation { is_on: true, pod_keeps_source: true };
    const UNASKED_FOR: [Event; 5] = [
        Event::Segment(TcpFlags(TcpFlags::SYN | TcpFlags::ACK)),
        Event::Segment(TcpFlags(TcpFlags::ACK)),
        Event::Segment(TcpFlags(TcpFlags::RST)),
        Event::Answer,
        Event::Fragment,
    ];

    #[test]
    fn egress_table() {
        use Services::{Known, Unknown};
        let (vnet, host, platform) = (Some(RouteClass::VNET), Some(RouteClass::HOST), Some(RouteClass::PLATFORM));
        let cases = [
            ("VNet", vnet, Unknown, ON, Path::WIRE, Nat::KEEP),
            ("VNet, services known", vnet, Known, ON, Path::WIRE, Nat::KEEP),
            ("the host", host, Known, ON, Path::STACK, Nat::UNDECIDED),
            ("platform", platform, Unknown, ON, Path::WIRE, Nat::TRANSLATED),
            ("platform, from a pod with a public address", platform, Known, OWN, Path::WIRE, Nat::TRANSLATED),
            ("Internet or a service", None, Unknown, ON, Path::STACK, Nat::UNDECIDED),
            ("Internet", None, Known, ON, Path::WIRE, Nat::TRANSLATED),
            ("Internet, from a pod with a public address", None, Known, OWN, Path::WIRE, Nat::KEEP),
            ("Internet, family that is not translated", None, Known, OFF, Path::WIRE, Nat::KEEP),
        ];
        for (what, class, services, translation, path, nat) in cases {
            for event in [SYN, Event::Datagram] {
                assert_eq!(from_pod(class, services, translation, event), Egress { path, nat }, "{what}");
            }
            for event in UNASKED_FOR {
                let egress = from_pod(class, services, translation, event);
                assert_eq!(egress.path, path, "{what}");
                assert_ne!(egress.nat, Nat::TRANSLATED, "{what}: {event:?} may be an answer");
            }
        }
    }

    #[test]
    fn what_went_up_the_stack_is_translated_at_the_wire_if_its_destination_asks_for_it() {
        for (class, translation, nat) in [
            (Some(RouteClass::VNET), ON, Nat::KEEP),
            (Some(RouteClass::HOST), ON, Nat::KEEP),
            (Some(RouteClass::PLATFORM), OWN, Nat::TRANSLATED),
            (None, ON, Nat::TRANSLATED),
            (None, OWN, Nat::KEEP),
            (None, OFF, Nat::KEEP),
        ] {
            assert_eq!(at_the_wire(class, translation, SYN), nat, "{class:?} {translation:?}");
            for event in UNASKED_FOR {
                assert_eq!(at_the_wire(class, translation, event), Nat::KEEP, "{event:?}");
            }
        }
    }
}
