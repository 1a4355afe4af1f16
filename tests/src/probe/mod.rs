//! Real traffic between stations: what gets through, which source the far end sees, how fast.
//!
//! Every probe has a time limit and an error that says from, to and what. None repeats itself: a first packet that is
//! lost is a finding, not noise. Each takes addresses of either version of IP.

mod arrivals;
mod crowd;
mod datagram;
mod echo;
mod flood;
mod latency;
mod packets;
mod ping;
mod reach;
mod throughput;
mod traceroute;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

pub use arrivals::{Arrival, Arrivals};
pub use crowd::Crowd;
pub use datagram::datagram;
pub use echo::{ECHO_PORT, EchoServer};
pub use flood::syn_flood;
pub use latency::latency;
use nix::sys::socket::{AddressFamily, SockaddrStorage};
pub use packets::{RawSender, fragments, syn};
pub use ping::{IcmpAnswer, ping, ping_of_size, ping_with_ttl};
pub use reach::{Connection, Reached, tcp, udp, udp_from, udp_from_each};
pub use throughput::{throughput, two_cores};
pub use traceroute::traceroute;

/// How long a probe waits for an answer: far above any delay inside one machine, short enough to prove silence.
pub const PATIENCE: Duration = Duration::from_millis(1500);

/// How often a serving thread looks whether it shall end.
const TICK: Duration = Duration::from_millis(20);

/// Any address of the version that `to` has, and any port: for a client that leaves the choice to the kernel.
fn any_of(to: SocketAddr) -> SocketAddr {
    let address: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    SocketAddr::new(address, 0)
}

fn family_of(address: SocketAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

/// What the kernel wrote as the address of a packet.
fn address_of(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage.as_sockaddr_in().map(|address| SocketAddr::V4((*address).into()));
    v4.or_else(|| storage.as_sockaddr_in6().map(|address| SocketAddr::V6((*address).into())))
}
