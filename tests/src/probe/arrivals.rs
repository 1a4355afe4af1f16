//! Records every packet that arrives at the interfaces of a namespace, answered or not.
//!
//! Neighbour discovery and group membership of IPv6 are left out, as ARP is.
//!
//! It proves absence ("no packet with a pod's source ever came here"), which no connection attempt can. It costs the
//! traffic some speed: do not watch while measuring.

use std::{
    io,
    net::IpAddr,
    ops::RangeInclusive,
    os::fd::{AsRawFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use etherparse::{IpNumber, Ipv4HeaderSlice, Ipv6HeaderSlice};
use nix::sys::{
    socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt},
    time::{TimeVal, TimeValLike},
};

use crate::{
    error::{Attempt, Result},
    probe::limits::TICK,
    station::Station,
};

/// An IPv4 header takes at most 60 bytes, an IPv6 header 40 and the type of an ICMPv6 message one; the rest of a packet is
/// not kept.
const SNAP: usize = 60;
/// Bytes that may wait for the watcher: a burst of packets as large as segmentation offload makes them.
const ROOM: usize = 64 << 20;
/// Neighbour discovery (RFC 4861 section 4).
const DISCOVERY: RangeInclusive<u8> = 133..=137;

/// A packet that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Its source address.
    pub source: IpAddr,
    /// Its destination address.
    pub destination: IpAddr,
    /// Its IP protocol number; of IPv6, the type of its first further header.
    pub protocol: u8,
    /// Its remaining TTL or hop limit.
    pub ttl: u8,
}

/// Watches a station until [`Arrivals::finish`].
pub struct Arrivals {
    stop: Arc<AtomicBool>,
    watchers: Vec<JoinHandle<Vec<Arrival>>>,
}

impl Arrivals {
    /// Starts to watch; packets that arrive from now on are recorded.
    pub fn watch(station: &dyn Station) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut watched = Self { stop, watchers: Vec::new() };
        for protocol in [SockProtocol::EthIp, SockProtocol::EthIpv6] {
            let socket = station.namespace().run(|| open(protocol));
            let socket = socket.attempt(|| format!("watch the arrivals at {}", station.name()))?;
            let stop = Arc::clone(&watched.stop);
            watched.watchers.push(thread::spawn(move || record(&socket, &stop)));
        }
        Ok(watched)
    }

    /// Ends the recording; returns everything that arrived before.
    pub fn finish(mut self) -> Vec<Arrival> {
        self.end()
    }

    fn end(&mut self) -> Vec<Arrival> {
        self.stop.store(true, Ordering::Relaxed);
        self.watchers.drain(..).flat_map(|watcher| watcher.join().expect("does not panic")).collect()
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        self.end();
    }
}

fn open(protocol: SockProtocol) -> io::Result<OwnedFd> {
    let socket = socket(AddressFamily::Packet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, protocol)?;
    setsockopt(&socket, sockopt::RcvBufForce, &ROOM)?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(TICK.as_millis() as i64))?;
    Ok(socket)
}

/// Records until it has to stop *and* no packet is queued any more.
fn record(socket: &OwnedFd, stop: &AtomicBool) -> Vec<Arrival> {
    let mut arrivals = Vec::new();
    let mut buffer = [0; SNAP];
    loop {
        // Read the flag before the socket, so that packets from before the stop are still recorded.
        let stopping = stop.load(Ordering::Relaxed);
        let flags = if stopping { MsgFlags::MSG_DONTWAIT } else { MsgFlags::empty() };
        match recv(socket.as_raw_fd(), &mut buffer, flags) {
            Ok(length) => arrivals.extend(parse(&buffer[..length])),
            Err(_) if stopping => {
                // A recording with gaps proves nothing.
                assert_eq!(missed(socket), 0, "packets that came faster than they could be recorded");
                return arrivals;
            }
            Err(_) => {}
        }
    }
}

/// How many packets found no room (packet(7), PACKET_STATISTICS).
fn missed(socket: &OwnedFd) -> u32 {
    // SAFETY: a structure of integers, for which zero is a value.
    let mut statistics: libc::tpacket_stats = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::tpacket_stats>() as libc::socklen_t;
    let into = (&raw mut statistics).cast();
    // SAFETY: the pointers are to a structure of the length named and to that length, which live longer than the call.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_PACKET, libc::PACKET_STATISTICS, into, &raw mut length)
    };
    assert_eq!(result, 0, "PACKET_STATISTICS: {}", io::Error::last_os_error());
    statistics.tp_drops
}

fn parse(packet: &[u8]) -> Option<Arrival> {
    if let Ok(header) = Ipv4HeaderSlice::from_slice(packet) {
        return Some(Arrival {
            source: header.source_addr().into(),
            destination: header.destination_addr().into(),
            protocol: header.protocol().0,
            ttl: header.ttl(),
        });
    }
    let header = Ipv6HeaderSlice::from_slice(packet).ok()?;
    let discovers = header.next_header() == IpNumber::IPV6_ICMP
        && packet.get(header.slice().len()).is_some_and(|kind| DISCOVERY.contains(kind));
    (!discovers && !header.destination_addr().is_multicast()).then(|| Arrival {
        source: header.source_addr().into(),
        destination: header.destination_addr().into(),
        protocol: header.next_header().0,
        ttl: header.hop_limit(),
    })
}
