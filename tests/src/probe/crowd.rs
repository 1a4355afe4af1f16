//! Many open TCP connections with both ends held here, which carry data on request.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
};

use crate::{
    error::Result,
    probe::{limits::PATIENCE, reach, socket_address::any_of},
    station::Station,
};

/// The discard service's port (RFC 863): free where the echo service runs.
const PORT: u16 = 9;

/// Connections from one station to another.
pub struct Crowd {
    pairs: Vec<Pair>,
    from: String,
    to: SocketAddr,
}

struct Pair {
    near: TcpStream,
    far: TcpStream,
    /// The peer that the far end sees.
    seen: SocketAddr,
}

impl Crowd {
    /// Opens `count` connections to the address `at` of `to`, one after the other.
    pub fn open(from: &dyn Station, to: &dyn Station, at: impl Into<std::net::IpAddr>, count: usize) -> Result<Self> {
        let at = SocketAddr::new(at.into(), PORT);
        let failed = |error| reach::failed(from, at, "tcp", error);
        let listener = to.namespace().run(|| TcpListener::bind(at)).map_err(failed)?;
        let open = || (0..count).map(|_| Pair::open(&listener, at)).collect::<io::Result<_>>();
        let pairs = from.namespace().run(open).map_err(failed)?;
        Ok(Self { pairs, from: from.name().into(), to: at })
    }

    /// The sources that the far end sees.
    pub fn sources_seen(&self) -> impl Iterator<Item = SocketAddr> {
        self.pairs.iter().map(|pair| pair.seen)
    }

    /// Sends a message over each connection and back; fails at the first that does not carry it.
    pub fn exchange(&mut self) -> Result<()> {
        for (number, pair) in self.pairs.iter_mut().enumerate() {
            pair.exchange(format!("message of connection {number}").as_bytes()).map_err(|source| {
                crate::Error::Probe {
                    from: format!("{}, connection {number}", self.from),
                    to: self.to.to_string(),
                    what: "tcp round trip",
                    source: reach::plain(source),
                }
            })?;
        }
        Ok(())
    }
}

impl Pair {
    /// The accepted socket belongs to the listener's namespace, whatever thread accepts it.
    fn open(listener: &TcpListener, to: SocketAddr) -> io::Result<Self> {
        let near = reach::connect_from(any_of(to), to)?;
        let (far, seen) = listener.accept()?;
        for stream in [&near, &far] {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
        }
        Ok(Self { near, far, seen })
    }

    fn exchange(&mut self, message: &[u8]) -> io::Result<()> {
        let mut buffer = vec![0; message.len()];
        self.near.write_all(message)?;
        self.far.read_exact(&mut buffer)?;
        self.far.write_all(&buffer)?;
        self.near.read_exact(&mut buffer)?;
        let corrupted = || io::Error::new(io::ErrorKind::InvalidData, "other bytes came back");
        (buffer == message).then_some(()).ok_or_else(corrupted)
    }
}
