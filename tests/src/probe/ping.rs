//! ICMP echo, and the ICMP errors that routers send back.

use std::{
    io,
    net::Ipv4Addr,
    os::fd::{AsRawFd, OwnedFd},
    process,
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use etherparse::{IcmpEchoHeader, Icmpv4Header, Icmpv4Slice, Icmpv4Type, Ipv4HeaderSlice};
use nix::sys::{
    socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, recv, sendto, setsockopt, socket,
        sockopt,
    },
    time::{TimeVal, TimeValLike},
};

use crate::{
    error::{Error, Result},
    probe::{PATIENCE, TICK},
    station::Station,
};

/// The usual TTL of a host.
const TTL: u8 = 64;

/// What came back for an echo request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IcmpAnswer {
    /// The echo reply of the address itself.
    Reply { round_trip: Duration },
    /// A router says that the TTL ran out.
    TimeExceeded { router: Ipv4Addr },
    /// A router or host says that it cannot be reached, with the ICMP code (RFC 792).
    Unreachable { router: Ipv4Addr, code: u8 },
}

/// Sends one echo request that must be answered; returns the round-trip time.
pub fn ping(from: &dyn Station, to: Ipv4Addr) -> Result<Duration> {
    match ping_with_ttl(from, to, TTL)? {
        IcmpAnswer::Reply { round_trip } => Ok(round_trip),
        refusal => Err(failed(from, to, io::Error::new(io::ErrorKind::HostUnreachable, format!("{refusal:?}")))),
    }
}

/// Sends one echo request with a TTL; silence is an error.
pub fn ping_with_ttl(from: &dyn Station, to: Ipv4Addr, ttl: u8) -> Result<IcmpAnswer> {
    from.namespace().run(|| exchange(to, ttl)).map_err(|error| failed(from, to, error))
}

fn failed(from: &dyn Station, to: Ipv4Addr, source: io::Error) -> Error {
    let from = format!("{} ({})", from.name(), from.address());
    Error::Probe { from, to: to.to_string(), what: "icmp echo", source }
}

fn exchange(to: Ipv4Addr, ttl: u8) -> io::Result<IcmpAnswer> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Raw sockets hear every ICMP packet of the namespace: the identifier says which are ours.
    let id = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add((process::id() as u16) << 8);
    let socket = socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Icmp)?;
    setsockopt(&socket, sockopt::Ipv4Ttl, &ttl.into())?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(TICK.as_millis() as i64))?;
    let payload = [0x5a; 32];
    let header = Icmpv4Header::with_checksum(Icmpv4Type::EchoRequest(IcmpEchoHeader { id, seq: 1 }), &payload);
    let request = [&header.to_bytes()[..], &payload].concat();
    let begin = Instant::now();
    sendto(socket.as_raw_fd(), &request, &SockaddrIn::from(std::net::SocketAddrV4::new(to, 0)), MsgFlags::empty())?;
    receive(&socket, to, id, begin)
}

fn receive(socket: &OwnedFd, to: Ipv4Addr, id: u16, begin: Instant) -> io::Result<IcmpAnswer> {
    let mut buffer = [0; 1500];
    while begin.elapsed() < PATIENCE {
        match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Ok(length) => {
                if let Some(answer) = interpret(&buffer[..length], to, id, begin.elapsed()) {
                    return Ok(answer);
                }
            }
            Err(nix::errno::Errno::EAGAIN) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer for {PATIENCE:?}")))
}

/// What a received packet says about the request `id` to `to`; `None` if it is about something else.
fn interpret(packet: &[u8], to: Ipv4Addr, id: u16, round_trip: Duration) -> Option<IcmpAnswer> {
    let ip = Ipv4HeaderSlice::from_slice(packet).ok()?;
    let icmp = Icmpv4Slice::from_slice(packet.get(ip.slice().len()..)?).ok()?;
    let router = ip.source_addr();
    match icmp.icmp_type() {
        Icmpv4Type::EchoReply(echo) => (echo.id == id && router == to).then_some(IcmpAnswer::Reply { round_trip }),
        Icmpv4Type::TimeExceeded(_) => is_about(icmp.payload(), to, id).then_some(IcmpAnswer::TimeExceeded { router }),
        Icmpv4Type::DestinationUnreachable(reason) => {
            is_about(icmp.payload(), to, id).then_some(IcmpAnswer::Unreachable { router, code: reason.code_u8() })
        }
        _ => None,
    }
}

/// Whether an ICMP error quotes our request: RFC 792 gives the IP header and 8 bytes after it.
fn is_about(quoted: &[u8], to: Ipv4Addr, id: u16) -> bool {
    Ipv4HeaderSlice::from_slice(quoted).is_ok_and(|ip| {
        let identifier = quoted.get(ip.slice().len() + 4..ip.slice().len() + 6);
        ip.destination_addr() == to && identifier == Some(&id.to_be_bytes())
    })
}
