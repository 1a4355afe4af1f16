//! How long the first packet of a flow takes there and back, while others hold the ports that it could have.
//!
//! [`take`] has one pod hold ports towards a destination; another pod then opens flows from the same ports of its own, so
//! that none can keep its port and each is searched for. Flows are UDP: nothing but the packet's way is in the time.

use std::{
    io,
    net::{SocketAddrV4, UdpSocket},
    ops::Range,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use azure_cni_tests::Station;

use super::udp;
use crate::cores::{self, Cores};

/// No answer within so long is a refusal.
pub(crate) const REFUSED_AFTER: Duration = Duration::from_millis(50);

/// So many flows wait for an answer at a time while ports are taken.
const UNANSWERED: u16 = 64;
/// A flow has its port whenever it is answered: other work may keep all of them waiting.
const TAKEN_WITHIN: Duration = Duration::from_secs(1);

/// Takes ports towards a destination that answers: one flow from each of the pod's own ports. Returns how many were answered.
pub(crate) fn take(pod: &dyn Station, ports: Range<u16>, to: SocketAddrV4) -> Result<usize> {
    let address = pod.address();
    // Inside once for all: to go in for each socket would take longer than all the rest.
    pod.namespace().run(|| {
        let mut answered = 0;
        for first in ports.clone().step_by(UNANSWERED.into()) {
            let some = first..ports.end.min(first.saturating_add(UNANSWERED));
            let sockets = some.map(|port| UdpSocket::bind((address, port)));
            let sockets =
                sockets.collect::<Result<Vec<_>, _>>().with_context(|| format!("UDP sockets at {address}"))?;
            let begun = sockets.iter().map(|socket| begin(socket, to)).collect::<Result<Vec<_>>>()?;
            for (socket, begin) in sockets.iter().zip(begun) {
                answered += usize::from(answer(socket, begin, TAKEN_WITHIN)?.is_some());
            }
        }
        Ok(answered)
    })
}

/// What came of flows that were opened one after another.
pub(crate) struct Opened {
    /// Nanoseconds, of those that were answered.
    pub(crate) took: Vec<f64>,
    pub(crate) refused: usize,
}

/// Opens a flow from each port and waits for its answer, without sleeping.
pub(crate) fn measure(pod: &dyn Station, ports: Range<u16>, to: SocketAddrV4, cores: Cores) -> Result<Opened> {
    ensure!(!ports.is_empty(), "no port to open a flow from");
    let sockets = ports.map(|port| udp::open(pod, port)).collect::<Result<Vec<_>>>()?;
    std::thread::scope(|scope| {
        let opening = scope.spawn(|| -> Result<Opened> {
            cores::pin(cores.client)?;
            let mut opened = Opened { took: Vec::new(), refused: 0 };
            for socket in &sockets {
                match answer(socket, begin(socket, to)?, REFUSED_AFTER)? {
                    Some(took) => opened.took.push(took.as_nanos() as f64),
                    None => opened.refused += 1,
                }
            }
            Ok(opened)
        });
        opening.join().expect("does not panic")
    })
}

/// Sends the first packet; returns when.
fn begin(socket: &UdpSocket, to: SocketAddrV4) -> Result<Instant> {
    socket.set_nonblocking(true)?;
    let begin = Instant::now();
    socket.send_to(&[0], to).with_context(|| format!("a datagram to {to}"))?;
    Ok(begin)
}

/// How long its answer took; `None` if there is none in time.
fn answer(socket: &UdpSocket, begin: Instant, within: Duration) -> Result<Option<Duration>> {
    loop {
        match socket.recv(&mut [0]) {
            Ok(_) => return Ok(Some(begin.elapsed())),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        if begin.elapsed() > within {
            return Ok(None);
        }
    }
}
