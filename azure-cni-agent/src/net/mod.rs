//! Links, addresses, routes, neighbours and namespaces. No other module knows netlink.
//!
//! The rule: a socket belongs to the namespace it was made in. So only short-lived threads enter a namespace, to make a
//! socket there. All waiting happens on the runtime's own threads, which never change their namespace.

mod elsewhere;
mod error;
mod filters;
mod link;
mod look_up;
mod netfilter;
mod netlink;
mod netns;
mod next_hops;
mod qdisc;
mod removals;
mod route;
mod rule;
mod sockets;
pub mod sysctl;

pub use elsewhere::ElsewhereChange;
pub use error::NetError;
pub use link::{Link, Peer, VethSpec};
pub use netfilter::{Hindrances, MAX_DESTINATIONS, RuleChanges, RuleMarks, RuleReading, RulesError, ServiceRules};
pub use netlink::Netlink;
pub use netns::{Netns, NetnsError, NetnsId};
pub use next_hops::{NextHop, Via};
pub use removals::RemovedLink;
pub use route::{NeighbourEntry, RouteEntry};
pub use rule::RuleEntry;
pub use sockets::{HeldPort, SocketsError, held_ports};
