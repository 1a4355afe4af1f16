//! Real traffic between stations: what gets through, which source the far end sees, how fast.
//!
//! Every probe has a time limit, and its error names source, destination and kind. No probe retries: a lost first packet is
//! a finding, not noise. Each takes addresses of either version of IP.

mod arrivals;
mod crowd;
mod datagram;
mod echo;
mod endings;
mod flood;
mod latency;
mod limits;
mod packets;
mod ping;
mod reach;
mod socket_address;
mod throughput;
mod traceroute;

pub use arrivals::{Arrival, Arrivals};
pub use crowd::Crowd;
pub use datagram::datagram;
pub use echo::{ECHO_PORT, EchoServer};
pub use endings::await_endings;
pub use flood::syn_flood;
pub use latency::latency;
pub use limits::PATIENCE;
pub use packets::{LinkSender, RawSender, fragments, syn};
pub use ping::{IcmpAnswer, ping, ping_of_size, ping_with_ttl};
pub use reach::{Connection, Reached, tcp, udp, udp_from, udp_from_each, udp_send_from_each};
pub use throughput::{Bulk, DATAGRAM, throughput, two_cores};
pub use traceroute::traceroute;
