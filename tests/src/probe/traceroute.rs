//! Which routers are on the way: datagrams with a growing hop limit, and the ICMP errors that come back to their socket.

use std::{
    io::{self, IoSliceMut},
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::AsRawFd,
};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};

use crate::{
    error::Result,
    probe::{limits::PATIENCE, reach, socket_address::any_of},
    station::Station,
};

/// The first port of traceroute(8): no process listens there, so the far end answers "port unreachable".
const PORT: u16 = 33_434;
/// Longer than any way through the network.
const MAX_HOPS: u8 = 8;

/// The address that answers at each hop. The last is the far end, or the router that gave up. Silence is an error.
pub fn traceroute(from: &dyn Station, to: impl Into<IpAddr>) -> Result<Vec<IpAddr>> {
    let to = SocketAddr::new(to.into(), PORT);
    from.namespace().run(|| walk(to)).map_err(|error| reach::failed(from, to, "traceroute", error))
}

fn walk(to: SocketAddr) -> io::Result<Vec<IpAddr>> {
    let socket = UdpSocket::bind(any_of(to))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    match to {
        SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?,
        SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?,
    }
    socket.connect(to)?;
    let mut hops = Vec::new();
    for hop_limit in 1..=MAX_HOPS {
        match to {
            SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4Ttl, &hop_limit.into())?,
            SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6Ttl, &hop_limit.into())?,
        }
        socket.send(b"who is there?")?;
        let error = await_error(&socket)?;
        hops.push(error.offender);
        if !error.time_exceeded {
            return Ok(hops);
        }
    }
    Err(io::Error::other(format!("more than {MAX_HOPS} hops: {hops:?}")))
}

struct IcmpError {
    offender: IpAddr,
    time_exceeded: bool,
}

/// The kernel reports an ICMP error twice: as the result of the next call, and with its origin in the error queue (ip(7),
/// IP_RECVERR).
fn await_error(socket: &UdpSocket) -> io::Result<IcmpError> {
    match socket.recv(&mut [0]) {
        Ok(_) => return Err(io::Error::other("a datagram came instead of an ICMP error")),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
        Err(_) => {}
    }
    let (mut byte, mut control) = ([0; 1], nix::cmsg_space!(libc::sock_extended_err, libc::sockaddr_in6));
    let mut payload = [IoSliceMut::new(&mut byte)];
    let fd = socket.as_raw_fd();
    let message = recvmsg::<SockaddrStorage>(fd, &mut payload, Some(&mut control), MsgFlags::MSG_ERRQUEUE)?;
    let named = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::Ipv4RecvErr(error, Some(offender)) => Some(IcmpError {
            offender: IpAddr::from(offender.sin_addr.s_addr.to_ne_bytes()),
            // RFC 792.
            time_exceeded: error.ee_type == 11,
        }),
        ControlMessageOwned::Ipv6RecvErr(error, Some(offender)) => Some(IcmpError {
            offender: IpAddr::from(offender.sin6_addr.s6_addr),
            // RFC 4443.
            time_exceeded: error.ee_type == 3,
        }),
        _ => None,
    });
    named.ok_or_else(|| io::Error::other("the error queue names nobody"))
}
