//! TCP connections per second: connect, a request of one byte, an answer of one byte, close.
//!
//! Several pairs of client and server threads, one connection at a time each, keep both cores busy: what limits the rate is
//! then work, not wake-ups. The server closes first, as in HTTP/1.0, so that TIME_WAIT does not use up the clients' ports;
//! and every server has a port of its own, so that not even a translated pod runs out of them.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use azure_cni_tests::Station;
use nix::sys::{
    socket::{setsockopt, sockopt},
    time::{TimeVal, TimeValLike},
};

use super::{
    machine_time,
    reading::{Reading, warm_up},
};
use crate::{
    cores::{self, Cores},
    figure::Figure,
    path::Path,
};

const PAIRS: usize = 8;
/// A connection that takes longer is a broken path.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a waiting server looks whether it is over.
const TICK: Duration = Duration::from_millis(20);

pub(super) fn run(path: &Path, cores: Cores, duration: Duration) -> Result<Reading> {
    let listeners = (0..PAIRS).map(|_| listen(path.to)).collect::<Result<Vec<_>>>()?;
    let addresses = listeners.iter().map(|listener| Ok(listener.local_addr()?)).collect::<Result<Vec<_>>>()?;
    let (done, over, closed) = (AtomicU64::new(0), AtomicBool::new(false), AtomicBool::new(false));
    let (done, over, closed) = (&done, &over, &closed);
    thread::scope(|scope| {
        let servers: Vec<_> =
            listeners.iter().map(|listener| scope.spawn(|| serve(listener, cores.server, closed))).collect();
        let clients: Vec<_> = addresses
            .into_iter()
            .map(|address| {
                let inside = move || connect_again_and_again(address, cores.client, done, over);
                scope.spawn(move || path.from.namespace().run(inside))
            })
            .collect();

        thread::sleep(warm_up(duration));
        let (from, before, spent_before) = (Instant::now(), done.load(Ordering::Relaxed), machine_time::spent()?);
        thread::sleep(duration - warm_up(duration));
        let (elapsed, after, spent) = (from.elapsed(), done.load(Ordering::Relaxed), machine_time::spent()?);

        over.store(true, Ordering::Relaxed);
        let by_clients = clients.into_iter().map(|client| client.join().expect("does not panic")).sum();
        // Only now: the last connection of each client is to be answered.
        closed.store(true, Ordering::Relaxed);
        let by_servers = servers.into_iter().map(|server| server.join().expect("does not panic")).sum();
        let [by_clients, by_servers]: [Result<Duration>; 2] = [by_clients, by_servers];
        let used = by_clients.context("a connection failed")? + by_servers?;

        ensure!(after > before, "not one connection was completed");
        let rate = (after - before) as f64 / elapsed.as_secs_f64();
        let cost = used.as_nanos() as f64 / done.load(Ordering::Relaxed) as f64;
        let of_machine = (spent - spent_before).as_nanos() as f64 / (after - before) as f64;
        Ok(Reading::of(vec![
            (Figure::ConnectionRate, rate),
            (Figure::ConnectionCost, cost),
            (Figure::ConnectionMachineCost, of_machine),
        ]))
    })
}

fn listen(station: &dyn Station) -> Result<TcpListener> {
    let listener = station.namespace().run(|| TcpListener::bind((station.address(), 0))).context("a TCP socket")?;
    let tick = TimeVal::milliseconds(TICK.as_millis() as i64);
    setsockopt(&listener, sockopt::ReceiveTimeout, &tick).context("a time limit for accept")?;
    Ok(listener)
}

/// Returns the processor time that it took.
fn connect_again_and_again(to: SocketAddr, core: usize, done: &AtomicU64, over: &AtomicBool) -> Result<Duration> {
    cores::pin(core)?;
    while !over.load(Ordering::Relaxed) {
        let mut stream = TcpStream::connect(to)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(&[1])?;
        let mut answer = Vec::with_capacity(2);
        stream.read_to_end(&mut answer)?;
        ensure!(answer.len() == 1, "the server answered {} bytes instead of one", answer.len());
        done.fetch_add(1, Ordering::Relaxed);
    }
    Ok(cores::used())
}

/// Returns the processor time that it took.
fn serve(listener: &TcpListener, core: usize, closed: &AtomicBool) -> Result<Duration> {
    cores::pin(core)?;
    while !closed.load(Ordering::Relaxed) {
        if let Ok((stream, _)) = listener.accept() {
            // A connection that breaks is the client's finding.
            let _ = answer(stream);
        }
    }
    Ok(cores::used())
}

fn answer(mut stream: TcpStream) -> io::Result<()> {
    // The listener's own limit is inherited (net/core/sock.c, sk_clone).
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut request = [0];
    stream.read_exact(&mut request)?;
    stream.write_all(&request)
}
