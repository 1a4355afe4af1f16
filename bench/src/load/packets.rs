//! The rate at which small UDP datagrams arrive, with next to none lost.
//!
//! The sender keeps at most a window of datagrams between itself and the receiver's count, so that the slower end sets
//! the speed and no queue overflows: the rate is that of a way that loses nothing, found without searching for it. On a
//! veth the sender's core does all the work up to the receiver's socket, so that core's time per packet is what the way
//! costs. The receiver has replied before it begins, so connection tracking has the flow as an established one.

use std::{
    io,
    net::UdpSocket,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use super::{
    batch::{BATCH, Batch},
    reading::{Reading, warm_up},
    udp::{self, PATIENCE},
};
use crate::{
    cores::{self, Cores},
    figure::Figure,
    path::Path,
};

/// Datagrams under way. The queue of the core that does the softirq work holds 1000 (net.core.netdev_max_backlog).
const WINDOW: u64 = 768;
/// The receiver leaves an empty socket alone for so long: asking it all the time would slow the sender down.
const REST: Duration = Duration::from_micros(10);
/// Datagrams that have not arrived after so long never will.
const LOST_AFTER: Duration = Duration::from_millis(50);

/// What both ends see.
#[derive(Default)]
struct Shared {
    /// The receiver has got its core.
    ready: AtomicBool,
    received: AtomicU64,
    stop: AtomicBool,
}

pub(super) fn run(path: &Path, cores: Cores, duration: Duration) -> Result<Reading> {
    let (sender, receiver) = udp::replied_pair(path)?;
    let mut batch = Batch::new();
    stream(&receiver, cores, duration, || batch.send(&sender))
}

/// `transmit` sends [`BATCH`] datagrams to the receiver.
pub(super) fn stream(
    receiver: &UdpSocket,
    cores: Cores,
    duration: Duration,
    transmit: impl FnMut() -> io::Result<usize> + Send,
) -> Result<Reading> {
    let shared = Shared::default();
    thread::scope(|scope| {
        let receiving = scope.spawn(|| receive(receiver, cores, &shared));
        let sending = scope.spawn(|| {
            let sent = send(transmit, cores, duration, &shared);
            shared.stop.store(true, Ordering::Relaxed);
            sent
        });
        let sent = sending.join().expect("does not panic")?;
        let receiver_waited = receiving.join().expect("does not panic")?;
        let receiver_disturbed = receiver_waited.map(|waited| waited.as_secs_f64() / duration.as_secs_f64());
        let disturbed = [sent.disturbed, receiver_disturbed].into_iter().flatten().reduce(f64::max);
        let values =
            vec![(Figure::PacketRate, sent.rate), (Figure::PacketCost, sent.cost), (Figure::PacketLoss, sent.loss)];
        Ok(Reading { values, disturbed, quantiles: None })
    })
}

struct Sent {
    rate: f64,
    /// Nanoseconds.
    cost: f64,
    loss: f64,
    disturbed: Option<f64>,
}

fn send(
    mut transmit: impl FnMut() -> io::Result<usize>,
    cores: Cores,
    duration: Duration,
    shared: &Shared,
) -> Result<Sent> {
    cores::pin(cores.client)?;
    let arrived = || shared.received.load(Ordering::Relaxed);
    let (mut sent, mut lost, mut busy) = (0u64, 0u64, Duration::ZERO);
    let mut send_until = |end: Instant| -> Result<()> {
        while Instant::now() < end {
            // The receiver may count what was given up as lost: then there is room, and less is lost than thought.
            if (sent - lost).saturating_sub(arrived()) + BATCH as u64 <= WINDOW {
                let before = cores::used();
                sent += taken(transmit())?;
                busy += cores::used() - before;
            } else if !wait_for_progress(arrived(), cores, shared) {
                lost = sent - arrived().min(sent);
            }
        }
        Ok(())
    };

    // On a busy machine a new thread may wait for its core longer than a run lasts.
    while !shared.ready.load(Ordering::Relaxed) {
        cores.relax();
    }
    let begin = Instant::now();
    send_until(begin + warm_up(duration))?;
    let (from, arrived_before, waited_before) = (Instant::now(), arrived(), cores::waited());
    send_until(begin + duration)?;
    // A busy machine may have kept both ends from their cores all the time.
    while arrived() == arrived_before && from.elapsed() < PATIENCE {
        send_until(Instant::now() + warm_up(duration))?;
    }
    let (elapsed, arrived_after, waited_after) = (from.elapsed(), arrived(), cores::waited());
    while arrived() < sent && wait_for_progress(arrived(), cores, shared) {}

    ensure!(arrived_after > arrived_before, "not one of {sent} datagrams arrived");
    Ok(Sent {
        rate: (arrived_after - arrived_before) as f64 / elapsed.as_secs_f64(),
        cost: busy.as_nanos() as f64 / sent as f64,
        loss: sent.saturating_sub(arrived()) as f64 / sent as f64,
        disturbed: cores::share(waited_before, waited_after, elapsed),
    })
}

fn taken(sent: io::Result<usize>) -> Result<u64> {
    match sent {
        Ok(count) => Ok(count as u64),
        // A full queue of the sender's own interface: nothing was taken.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOBUFS)) => Ok(0),
        Err(error) => Err(error).context("send datagrams"),
    }
}

/// Waits until more than `before` has arrived; false if nothing comes.
fn wait_for_progress(before: u64, cores: Cores, shared: &Shared) -> bool {
    let begin = Instant::now();
    while shared.received.load(Ordering::Relaxed) == before {
        if begin.elapsed() > LOST_AFTER {
            return false;
        }
        cores.relax();
    }
    true
}

/// Counts until `stop` is set; returns how long this thread waited for its core meanwhile.
fn receive(socket: &UdpSocket, cores: Cores, shared: &Shared) -> Result<Option<Duration>> {
    let pinned = cores::pin(cores.server);
    shared.ready.store(true, Ordering::Relaxed);
    pinned?;
    let (mut batch, waited_before) = (Batch::new(), cores::waited());
    while !shared.stop.load(Ordering::Relaxed) {
        match batch.receive(socket) {
            Ok(0) => rest(cores),
            Ok(count) => drop(shared.received.fetch_add(count as u64, Ordering::Relaxed)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("receive datagrams"),
        }
    }
    Ok(cores::waited().zip(waited_before).map(|(after, before)| after - before))
}

fn rest(cores: Cores) {
    let begin = Instant::now();
    while begin.elapsed() < REST {
        cores.relax();
    }
}
