//! Round-trip time of one byte over an open TCP connection.

use std::{net::SocketAddr, time::Duration};

use crate::{error::Result, probe::reach::Connection, station::Station};

/// Round trips before the first one that counts, to warm up caches, neighbour entries and the congestion window.
const WARM_UP: usize = 20;

/// The median of `samples` round trips to an [`crate::probe::EchoServer`].
pub fn latency(from: &dyn Station, to: impl Into<SocketAddr>, samples: usize) -> Result<Duration> {
    let mut connection = Connection::open(from, to)?;
    let mut measured = Vec::with_capacity(samples);
    for number in 0..WARM_UP + samples {
        let elapsed = connection.round_trip(b"x")?;
        if number >= WARM_UP {
            measured.push(elapsed);
        }
    }
    measured.sort();
    Ok(measured.get(measured.len() / 2).copied().unwrap_or_default())
}
