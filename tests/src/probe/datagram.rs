//! One datagram of any length there and back: what is longer than the links travels as fragments.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
};

use crate::{
    error::Result,
    probe::{
        limits::PATIENCE,
        reach::{self, Reached},
        socket_address::any_of,
    },
    station::Station,
};

/// Longer than any datagram.
const BUFFER: usize = 1 << 16;

/// Sends `data` to a free port of `at` at `to` and has it sent back from there; both must arrive whole.
pub fn datagram(from: &dyn Station, to: &dyn Station, at: impl Into<std::net::IpAddr>, data: &[u8]) -> Result<Reached> {
    let at = SocketAddr::new(at.into(), 0);
    exchange(from, to, at, data).map_err(|error| reach::failed(from, at, "long datagram", error))
}

fn exchange(from: &dyn Station, to: &dyn Station, at: SocketAddr, data: &[u8]) -> io::Result<Reached> {
    let far = bind(to, at)?;
    let near = bind(from, any_of(at))?;
    near.connect(far.local_addr()?)?;
    near.send(data)?;
    let mut buffer = vec![0; BUFFER];
    let (length, source_seen) = far.recv_from(&mut buffer)?;
    compare("there", &buffer[..length], data)?;
    far.send_to(data, source_seen)?;
    let length = near.recv(&mut buffer)?;
    compare("back", &buffer[..length], data)?;
    Ok(Reached { source_seen, source_used: near.local_addr()? })
}

fn bind(station: &dyn Station, address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = station.namespace().run(|| UdpSocket::bind(address))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

fn compare(direction: &str, arrived: &[u8], sent: &[u8]) -> io::Result<()> {
    let corrupted = || format!("{} other bytes arrived {direction} instead of {}", arrived.len(), sent.len());
    (arrived == sent).then_some(()).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, corrupted()))
}
