//! ICMP echo, and the ICMP errors that routers send back.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd, OwnedFd},
    process,
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use etherparse::{IcmpEchoHeader, Icmpv4Header, Icmpv4Type, Ipv4HeaderSlice, Ipv6HeaderSlice};
use nix::{
    errno::Errno,
    sys::{
        socket::{
            MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, recvfrom, sendto, setsockopt, socket, sockopt,
        },
        time::{TimeVal, TimeValLike},
    },
};

use crate::{
    error::{Error, Result},
    probe::{
        limits::{PATIENCE, TICK},
        socket_address::{address_of, family_of},
    },
    station::{IpVersion, Station},
};

/// The usual TTL of a host.
const TTL: u8 = 64;
/// The payload of a usual echo request.
const PAYLOAD: usize = 32;
/// Type, code, checksum, identifier and sequence number.
const ICMP_HEADER: usize = 8;

/// What came back for an echo request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IcmpAnswer {
    /// The echo reply of the address itself.
    Reply { round_trip: Duration },
    /// A router says that the TTL ran out.
    TimeExceeded { router: IpAddr },
    /// A router or host says that it cannot be reached, with the code (RFC 792, RFC 4443).
    Unreachable { router: IpAddr, code: u8 },
}

/// Sends one echo request that must be answered; returns the round-trip time.
pub fn ping(from: &dyn Station, to: impl Into<IpAddr>) -> Result<Duration> {
    ping_of_size(from, to, PAYLOAD)
}

/// The same with a payload of the caller's choice, also one that takes several fragments; it must come back as it was.
pub fn ping_of_size(from: &dyn Station, to: impl Into<IpAddr>, payload: usize) -> Result<Duration> {
    let to = to.into();
    match send(from, to, TTL, payload)? {
        IcmpAnswer::Reply { round_trip } => Ok(round_trip),
        refusal => Err(failed(from, to, io::Error::new(io::ErrorKind::HostUnreachable, format!("{refusal:?}")))),
    }
}

/// Sends one echo request with a TTL; silence is an error.
pub fn ping_with_ttl(from: &dyn Station, to: impl Into<IpAddr>, ttl: u8) -> Result<IcmpAnswer> {
    send(from, to.into(), ttl, PAYLOAD)
}

fn send(from: &dyn Station, to: IpAddr, ttl: u8, payload: usize) -> Result<IcmpAnswer> {
    from.namespace().run(|| exchange(to, ttl, payload)).map_err(|error| failed(from, to, error))
}

fn failed(from: &dyn Station, to: IpAddr, source: io::Error) -> Error {
    let from = format!("{} ({})", from.name(), from.ip(IpVersion::of(to)));
    Error::Probe { from, to: to.to_string(), what: "icmp echo", source }
}

/// The types of the messages: RFC 792, RFC 4443.
struct Types {
    reply: u8,
    time_exceeded: u8,
    unreachable: u8,
}

const V4: Types = Types { reply: 0, time_exceeded: 11, unreachable: 3 };
const V6: Types = Types { reply: 129, time_exceeded: 3, unreachable: 1 };
const ECHO_REQUEST_V6: u8 = 128;

/// An echo request that waits for what comes back.
struct Request {
    socket: OwnedFd,
    to: IpAddr,
    id: u16,
    payload: Vec<u8>,
    begin: Instant,
}

fn exchange(to: IpAddr, ttl: u8, payload: usize) -> io::Result<IcmpAnswer> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Raw sockets receive every ICMP packet of the namespace. The identifier marks ours.
    let id = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add((process::id() as u16) << 8);
    let target = SocketAddr::new(to, 0);
    let protocol = if to.is_ipv4() { SockProtocol::Icmp } else { SockProtocol::IcmpV6 };
    let socket = socket(family_of(target), SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    match to {
        IpAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4Ttl, &ttl.into())?,
        IpAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6Ttl, &ttl.into())?,
    }
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(TICK.as_millis() as i64))?;
    let payload: Vec<u8> = (0..payload).map(|byte| byte as u8).collect();
    let request = Request { socket, to, id, payload, begin: Instant::now() };
    sendto(request.socket.as_raw_fd(), &request.bytes(), &SockaddrStorage::from(target), MsgFlags::empty())?;
    request.receive()
}

impl Request {
    fn bytes(&self) -> Vec<u8> {
        let header = match self.to {
            IpAddr::V4(_) => {
                let echo = Icmpv4Type::EchoRequest(IcmpEchoHeader { id: self.id, seq: 1 });
                Icmpv4Header::with_checksum(echo, &self.payload).to_bytes().to_vec()
            }
            // The kernel computes the checksum, which covers addresses that it chooses (RFC 3542 section 3.1).
            IpAddr::V6(_) => {
                let [high, low] = self.id.to_be_bytes();
                vec![ECHO_REQUEST_V6, 0, 0, 0, high, low, 0, 1]
            }
        };
        [&header[..], &self.payload].concat()
    }

    fn receive(&self) -> io::Result<IcmpAnswer> {
        let mut buffer = vec![0; 65_536];
        while self.begin.elapsed() < PATIENCE {
            match recvfrom::<SockaddrStorage>(self.socket.as_raw_fd(), &mut buffer) {
                Ok((length, source)) => {
                    let source = source.as_ref().and_then(address_of).ok_or(io::ErrorKind::InvalidData)?;
                    if let Some(answer) = self.interpret(&buffer[..length], source.ip()) {
                        return Ok(answer);
                    }
                }
                Err(Errno::EAGAIN) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer for {PATIENCE:?}")))
    }

    /// What a received message means for this request; `None` if it is about another.
    fn interpret(&self, packet: &[u8], router: IpAddr) -> Option<IcmpAnswer> {
        // Raw sockets of IPv4 deliver the IP header too (raw(7)).
        let (types, message) = match self.to {
            IpAddr::V4(_) => (V4, packet.get(Ipv4HeaderSlice::from_slice(packet).ok()?.slice().len()..)?),
            IpAddr::V6(_) => (V6, packet),
        };
        let (header, rest) = message.split_at_checked(ICMP_HEADER)?;
        let (kind, code) = (header[0], header[1]);
        if kind == types.reply {
            let ours = header[4..6] == self.id.to_be_bytes() && router == self.to && rest == self.payload;
            return ours.then(|| IcmpAnswer::Reply { round_trip: self.begin.elapsed() });
        }
        if !self.is_quoted(rest) {
            return None;
        }
        match kind {
            kind if kind == types.time_exceeded => Some(IcmpAnswer::TimeExceeded { router }),
            kind if kind == types.unreachable => Some(IcmpAnswer::Unreachable { router, code }),
            _ => None,
        }
    }

    /// Whether an ICMP error quotes this request: the IP header and at least 8 bytes after it (RFC 792).
    fn is_quoted(&self, quoted: &[u8]) -> bool {
        let header = match self.to {
            IpAddr::V4(_) => Ipv4HeaderSlice::from_slice(quoted)
                .map(|ip| (IpAddr::from(ip.destination_addr()), ip.slice().len()))
                .ok(),
            IpAddr::V6(_) => Ipv6HeaderSlice::from_slice(quoted)
                .map(|ip| (IpAddr::from(ip.destination_addr()), ip.slice().len()))
                .ok(),
        };
        header.is_some_and(|(destination, length)| {
            destination == self.to && quoted.get(length + 4..length + 6) == Some(&self.id.to_be_bytes())
        })
    }
}
