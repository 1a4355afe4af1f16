//! Real traffic between stations: what gets through, which source the far end sees, how fast.
//!
//! Every probe has a time limit and an error that says from, to and what. None repeats itself: a first packet that is
//! lost is a finding, not noise.

mod arrivals;
mod echo;
mod latency;
mod ping;
mod reach;
mod throughput;

use std::time::Duration;

pub use arrivals::{Arrival, Arrivals};
pub use echo::{ECHO_PORT, EchoServer};
pub use latency::latency;
pub use ping::{IcmpAnswer, ping, ping_with_ttl};
pub use reach::{Connection, Reached, tcp, udp, udp_from};
pub use throughput::{throughput, two_cores};

/// How long a probe waits for an answer: far above any delay inside one machine, short enough to prove silence.
pub const PATIENCE: Duration = Duration::from_millis(1500);

/// How often a serving thread looks whether it shall end.
const TICK: Duration = Duration::from_millis(20);
