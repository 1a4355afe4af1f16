//! The far end of probes: it answers with the source address of the probe.
//!
//! TCP: one line with the peer's address, then every byte comes back. UDP: each datagram is answered with the address.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use nix::sys::{
    socket::{setsockopt, sockopt},
    time::{TimeVal, TimeValLike},
};

use crate::{
    error::{Attempt, Result},
    probe::limits::TICK,
    station::Station,
};

/// The echo service's port (RFC 862).
pub const ECHO_PORT: u16 = 7;

/// Serves TCP and UDP on one port of a station until dropped.
pub struct EchoServer {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    servers: Vec<JoinHandle<()>>,
}

impl EchoServer {
    /// Serves on the station's own IPv4 address and [`ECHO_PORT`].
    pub fn start(station: &dyn Station) -> Result<Self> {
        Self::start_on(station, (station.address(), ECHO_PORT))
    }

    /// Serves on any address that the station accepts packets for.
    pub fn start_on(station: &dyn Station, address: impl Into<SocketAddr>) -> Result<Self> {
        let address = address.into();
        let (listener, datagrams) =
            station.namespace().run(|| bind(address)).attempt(|| format!("serve {address} on {}", station.name()))?;
        let stop = Arc::new(AtomicBool::new(false));
        let (stop_tcp, stop_udp) = (Arc::clone(&stop), Arc::clone(&stop));
        let servers = vec![
            thread::spawn(move || serve_connections(&listener, &stop_tcp)),
            thread::spawn(move || serve_datagrams(&datagrams, &stop_udp)),
        ];
        Ok(Self { address, stop, servers })
    }

    /// Where it serves.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for server in self.servers.drain(..) {
            let _ = server.join();
        }
    }
}

/// Opens both sockets with a receive time-out (accepting included), so that their threads can be ended.
fn bind(address: SocketAddr) -> io::Result<(TcpListener, UdpSocket)> {
    let listener = TcpListener::bind(address)?;
    setsockopt(&listener, sockopt::ReceiveTimeout, &TimeVal::milliseconds(TICK.as_millis() as i64))?;
    let datagrams = UdpSocket::bind(address)?;
    datagrams.set_read_timeout(Some(TICK))?;
    Ok((listener, datagrams))
}

fn serve_connections(listener: &TcpListener, stop: &AtomicBool) {
    thread::scope(|scope| {
        while !stop.load(Ordering::Relaxed) {
            if let Ok((stream, peer)) = listener.accept() {
                // A connection that breaks is the client's finding.
                scope.spawn(move || serve(stream, peer, stop));
            }
        }
    });
}

fn serve(mut stream: TcpStream, peer: SocketAddr, stop: &AtomicBool) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TICK))?;
    stream.write_all(format!("{peer}\n").as_bytes())?;
    let mut buffer = [0; 4096];
    while !stop.load(Ordering::Relaxed) {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => stream.write_all(&buffer[..length])?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn serve_datagrams(socket: &UdpSocket, stop: &AtomicBool) {
    let mut buffer = [0; 64];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((_, peer)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(peer.to_string().as_bytes(), peer);
        }
    }
}

/// The peer address that an answer carries.
pub(super) fn parse_seen(answer: &str) -> io::Result<SocketAddr> {
    let unexpected = || io::Error::new(io::ErrorKind::InvalidData, format!("the far end answered {answer:?}"));
    answer.trim_end().parse().map_err(|_| unexpected())
}
