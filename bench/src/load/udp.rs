//! UDP sockets of a path's two ends.

use std::{net::UdpSocket, time::Duration};

use anyhow::{Context, Result};
use azure_cni_tests::Station;
use nix::sys::socket::{setsockopt, sockopt};

use crate::path::Path;

/// A datagram that takes longer, there or back, is on a broken path.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Holds what comes while a receiver is kept from its core for some time, at about 1 KiB of kernel memory for each small
/// datagram.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Has a receiver lose nothing for want of room.
pub(super) fn enlarge_buffer(receiver: &UdpSocket) -> Result<()> {
    setsockopt(receiver, sockopt::RcvBufForce, &RECEIVE_BUFFER).context("a receive buffer")
}

/// A socket at a station's own address.
pub(super) fn open(station: &dyn Station, port: u16) -> Result<UdpSocket> {
    let socket = station.namespace().run(|| UdpSocket::bind((station.address(), port)));
    socket.with_context(|| format!("a UDP socket at {}:{port}", station.address()))
}

/// A sender and a receiver that are connected to each other, after one datagram each way: connection tracking has the flow as an
/// established one.
pub(crate) fn replied_pair(path: &Path) -> Result<(UdpSocket, UdpSocket)> {
    let (sender, receiver) = (open(path.from, 0)?, open(path.to, 0)?);
    enlarge_buffer(&receiver)?;
    sender.connect(receiver.local_addr()?)?;
    greet(&sender, &receiver).context("a datagram there and one back")?;
    Ok((sender, receiver))
}

fn greet(sender: &UdpSocket, receiver: &UdpSocket) -> Result<()> {
    for socket in [sender, receiver] {
        socket.set_read_timeout(Some(PATIENCE))?;
    }
    sender.send(&[0])?;
    let (_, seen) = receiver.recv_from(&mut [0])?;
    receiver.connect(seen)?;
    receiver.send(&[0])?;
    sender.recv(&mut [0])?;
    Ok(())
}
