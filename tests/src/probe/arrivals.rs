//! A witness: every IPv4 packet that arrives at the interfaces of a namespace, whether or not anybody answers it.
//!
//! It proves absence ("no packet with a pod's source ever came here"), which no connection attempt can. It costs the
//! traffic some speed: do not watch while measuring.

use std::{
    io,
    net::Ipv4Addr,
    os::fd::{AsRawFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use etherparse::Ipv4HeaderSlice;
use nix::sys::{
    socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt},
    time::{TimeVal, TimeValLike},
};

use crate::{
    error::{Attempt, Result},
    probe::TICK,
    station::Station,
};

/// An IPv4 header takes at most 60 bytes; the rest of a packet is not kept.
const SNAP: usize = 60;

/// A packet that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Its source address.
    pub source: Ipv4Addr,
    /// Its destination address.
    pub destination: Ipv4Addr,
    /// Its IP protocol number.
    pub protocol: u8,
    /// Its remaining TTL.
    pub ttl: u8,
}

/// Watches a station until [`Arrivals::finish`].
pub struct Arrivals {
    stop: Arc<AtomicBool>,
    watcher: Option<JoinHandle<Vec<Arrival>>>,
}

impl Arrivals {
    /// Starts to watch; packets that arrive from now on are recorded.
    pub fn watch(station: &dyn Station) -> Result<Self> {
        let socket = station.namespace().run(open).attempt(|| format!("watch the arrivals at {}", station.name()))?;
        let stop = Arc::new(AtomicBool::new(false));
        let watcher = thread::spawn({
            let stop = Arc::clone(&stop);
            move || record(&socket, &stop)
        });
        Ok(Self { stop, watcher: Some(watcher) })
    }

    /// Ends the watch; everything that arrived before is in the answer.
    pub fn finish(mut self) -> Vec<Arrival> {
        self.end()
    }

    fn end(&mut self) -> Vec<Arrival> {
        self.stop.store(true, Ordering::Relaxed);
        self.watcher.take().map(|watcher| watcher.join().expect("does not panic")).unwrap_or_default()
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        self.end();
    }
}

fn open() -> io::Result<OwnedFd> {
    let socket = socket(AddressFamily::Packet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, SockProtocol::EthIp)?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(TICK.as_millis() as i64))?;
    Ok(socket)
}

/// Records until told to stop *and* nothing is queued any more.
fn record(socket: &OwnedFd, stop: &AtomicBool) -> Vec<Arrival> {
    let mut arrivals = Vec::new();
    let mut buffer = [0; SNAP];
    loop {
        // Read before the socket: what came before the order to stop is then still taken out.
        let stopping = stop.load(Ordering::Relaxed);
        let flags = if stopping { MsgFlags::MSG_DONTWAIT } else { MsgFlags::empty() };
        match recv(socket.as_raw_fd(), &mut buffer, flags) {
            Ok(length) => arrivals.extend(parse(&buffer[..length])),
            Err(_) if stopping => return arrivals,
            Err(_) => {}
        }
    }
}

fn parse(packet: &[u8]) -> Option<Arrival> {
    let header = Ipv4HeaderSlice::from_slice(packet).ok()?;
    Some(Arrival {
        source: header.source_addr(),
        destination: header.destination_addr(),
        protocol: header.protocol().0,
        ttl: header.ttl(),
    })
}
