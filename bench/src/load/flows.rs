//! Small UDP datagrams of many flows in turns: each packet is of another flow than the one before, so that no cache still has its
//! table entries.
//!
//! Flows are pairs of a sender's port and a target's address. Ports are fixed: the same flows come again in every round, and
//! tables do not fill up meanwhile. All flows have been answered before it begins.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use azure_cni_tests::Station;

use super::{
    batch::{BATCH, Batch},
    echo::Echo,
    packets,
    reading::Reading,
    udp,
};
use crate::cores::Cores;

/// The first of the senders' ports, and the receiver's.
const FIRST_PORT: u16 = 40_000;
const TARGET_PORT: u16 = 6000;
/// So many datagrams may wait for an answer while flows are opened: all find room in either queue.
const UNANSWERED: usize = 64;

/// `targets`: addresses of the namespace of `to`, all of them reachable from `from`. `ports`: of the sender.
pub(crate) fn run(
    from: &dyn Station,
    to: &dyn Station,
    targets: &[Ipv4Addr],
    ports: u16,
    cores: Cores,
    duration: Duration,
) -> Result<Reading> {
    let receiver =
        to.namespace().run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, TARGET_PORT))).context("a UDP socket")?;
    udp::enlarge_buffer(&receiver)?;
    let targets: Vec<_> = targets.iter().map(|address| SocketAddrV4::new(*address, TARGET_PORT)).collect();
    let senders = (0..ports).map(|index| udp::open(from, FIRST_PORT + index)).collect::<Result<Vec<_>>>()?;
    {
        let echo = Echo::start(&receiver, cores.server)?;
        senders.iter().try_for_each(|sender| open_all(sender, &targets))?;
        echo.finish()?;
    }
    let mut turns = RoundRobin::new(&senders, &targets);
    packets::stream(&receiver, cores, duration, || turns.transmit())
}

/// Opens a flow to each target and sees it answered.
fn open_all(sender: &UdpSocket, targets: &[SocketAddrV4]) -> Result<()> {
    sender.set_nonblocking(true)?;
    let (mut sent, mut answered, mut progress) = (0, 0, Instant::now());
    while answered < targets.len() {
        if sent < targets.len() && sent - answered < UNANSWERED {
            sender.send_to(&[0], targets[sent]).with_context(|| format!("a datagram to {}", targets[sent]))?;
            sent += 1;
        }
        match sender.recv(&mut [0]) {
            Ok(_) => (answered, progress) = (answered + 1, Instant::now()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                ensure!(progress.elapsed() < udp::PATIENCE, "{answered} of {sent} datagrams were answered");
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Whose turn it is.
struct RoundRobin<'sockets> {
    senders: &'sockets [UdpSocket],
    batches: Vec<Batch>,
    next: usize,
}

impl<'sockets> RoundRobin<'sockets> {
    fn new(senders: &'sockets [UdpSocket], targets: &[SocketAddrV4]) -> Self {
        let count = targets.len().div_ceil(BATCH);
        let batch = |index: usize| Batch::to(&std::array::from_fn(|at| targets[(index * BATCH + at) % targets.len()]));
        Self { senders, batches: (0..count).map(batch).collect(), next: 0 }
    }

    /// All targets from one port, then all from the next.
    fn transmit(&mut self) -> io::Result<usize> {
        let (round, index) = (self.next / self.batches.len(), self.next % self.batches.len());
        self.next += 1;
        self.batches[index].send(&self.senders[round % self.senders.len()])
    }
}
