//! Whether an address answers by TCP or UDP, and which source it saw.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    os::fd::AsRawFd,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        socket::{SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt},
        time::{TimeVal, TimeValLike},
    },
};

use crate::{
    error::{Error, Result},
    probe::{
        echo::parse_seen,
        limits::PATIENCE,
        socket_address::{any_of, family_of},
    },
    station::{IpVersion, Station},
};

/// An answered probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached {
    /// The source that the far end saw.
    pub source_seen: SocketAddr,
    /// The source that the near end used.
    pub source_used: SocketAddr,
}

/// Connects once to an [`crate::probe::EchoServer`].
pub fn tcp(from: &dyn Station, to: impl Into<SocketAddr>) -> Result<Reached> {
    Connection::open(from, to).map(|connection| connection.reached)
}

/// Sends one datagram to an [`crate::probe::EchoServer`].
pub fn udp(from: &dyn Station, to: impl Into<SocketAddr>) -> Result<Reached> {
    let to = to.into();
    udp_from(from, any_of(to), to)
}

/// The same from an address and port of the caller's choice.
pub fn udp_from(from: &dyn Station, source: impl Into<SocketAddr>, to: impl Into<SocketAddr>) -> Result<Reached> {
    let (source, to) = (source.into(), to.into());
    from.namespace().run(|| ask(source, to)).map_err(|error| failed(from, to, "udp", error))
}

/// The same from each of many ports in turn: a flow each, more of them than a process may have sockets.
pub fn udp_from_each(
    from: &dyn Station,
    ports: impl IntoIterator<Item = u16> + Send,
    to: impl Into<SocketAddr>,
) -> Result<Vec<Reached>> {
    let to = to.into();
    let ask_all = || {
        let asked = ports.into_iter().map(|port| {
            let source = SocketAddr::new(any_of(to).ip(), port);
            ask(source, to).map_err(|error| io::Error::new(plain(error).kind(), format!("from port {port}")))
        });
        asked.collect::<io::Result<Vec<Reached>>>()
    };
    from.namespace().run(ask_all).map_err(|error| failed(from, to, "udp", error))
}

/// One datagram from each of many ports, whether it is answered or not.
pub fn udp_send_from_each(
    from: &dyn Station,
    ports: impl IntoIterator<Item = u16> + Send,
    to: impl Into<SocketAddr>,
) -> Result<()> {
    let to = to.into();
    let send_all = || {
        ports.into_iter().try_for_each(|port| {
            UdpSocket::bind(SocketAddr::new(any_of(to).ip(), port))?.send_to(b"who am I?", to).map(drop)
        })
    };
    from.namespace().run(send_all).map_err(|error| failed(from, to, "udp", error))
}

fn ask(source: SocketAddr, to: SocketAddr) -> io::Result<Reached> {
    let socket = UdpSocket::bind(source)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(to)?;
    socket.send(b"who am I?")?;
    let mut answer = [0; 64];
    let length = socket.recv(&mut answer)?;
    let source_seen = parse_seen(&String::from_utf8_lossy(&answer[..length]))?;
    Ok(Reached { source_seen, source_used: socket.local_addr()? })
}

/// A TCP connection to an [`crate::probe::EchoServer`] that stays open.
pub struct Connection {
    stream: BufReader<TcpStream>,
    reached: Reached,
    from: String,
    to: SocketAddr,
}

impl Connection {
    /// Connects and reads what the far end saw.
    pub fn open(from: &dyn Station, to: impl Into<SocketAddr>) -> Result<Self> {
        let to = to.into();
        Self::open_from(from, any_of(to), to)
    }

    /// The same from an address and port of the caller's choice.
    pub fn open_from(from: &dyn Station, source: impl Into<SocketAddr>, to: impl Into<SocketAddr>) -> Result<Self> {
        let (source, to) = (source.into(), to.into());
        let connect = || -> io::Result<(BufReader<TcpStream>, Reached)> {
            let stream = connect_from(source, to)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            let source_used = stream.local_addr()?;
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            stream.read_line(&mut line)?;
            Ok((stream, Reached { source_seen: parse_seen(&line)?, source_used }))
        };
        let (stream, reached) = from.namespace().run(connect).map_err(|error| failed(from, to, "tcp", error))?;
        Ok(Self { stream, reached, from: from.name().into(), to })
    }

    /// What both ends took for the source.
    pub fn reached(&self) -> Reached {
        self.reached
    }

    /// Sends bytes and waits until the same have come back.
    pub fn round_trip(&mut self, bytes: &[u8]) -> Result<Duration> {
        let begin = Instant::now();
        let mut back = vec![0; bytes.len()];
        let exchanged = self.stream.get_mut().write_all(bytes).and_then(|()| self.stream.read_exact(&mut back));
        let elapsed = begin.elapsed();
        let compared = exchanged.and_then(|()| {
            let corrupted = || io::Error::new(io::ErrorKind::InvalidData, "other bytes came back");
            (back == bytes).then_some(elapsed).ok_or_else(corrupted)
        });
        compared.map_err(|source| Error::Probe {
            from: self.from.clone(),
            to: self.to.to_string(),
            what: "tcp round trip",
            source: plain(source),
        })
    }
}

/// A connection from a bound source; the time limit of sending is that of connecting too (socket(7), SO_SNDTIMEO).
pub(super) fn connect_from(source: SocketAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = socket(family_of(to), SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    setsockopt(&socket, sockopt::SendTimeout, &TimeVal::milliseconds(PATIENCE.as_millis() as i64))?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(source))?;
    match connect(socket.as_raw_fd(), &SockaddrStorage::from(to)) {
        // connect(2) returns this when the limit passes.
        Err(Errno::EINPROGRESS) => Err(io::ErrorKind::WouldBlock.into()),
        Err(errno) => Err(errno.into()),
        Ok(()) => Ok(TcpStream::from(socket)),
    }
}

pub(super) fn failed(from: &dyn Station, to: SocketAddr, what: &'static str, source: io::Error) -> Error {
    let from = format!("{} ({})", from.name(), from.ip(IpVersion::of(to.ip())));
    Error::Probe { from, to: to.to_string(), what, source: plain(source) }
}

/// Turns `EAGAIN`, which a receive time-out gives, into an error that reads as silence.
pub(super) fn plain(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => io::Error::new(io::ErrorKind::TimedOut, format!("no answer for {PATIENCE:?}")),
        _ => error,
    }
}
