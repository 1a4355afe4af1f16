//! How long one byte takes there and back, over an open TCP connection or as a datagram.
//!
//! Both ends ask their socket without sleeping: the wake-up of an idle core takes several times as long as the packets' way,
//! and differs from one to the next by more.

use std::{
    io::{self, Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use super::reading::{Reading, warm_up};
use crate::{
    cores::{self, Cores},
    figure::Figure,
    path::Path,
    statistics::{quantile, quantiles},
};

/// No answer within so long is a broken path.
const PATIENCE: Duration = Duration::from_secs(2);

/// An end that can be asked without waiting.
trait End: Sync {
    fn send(&self, byte: u8) -> io::Result<()>;
    /// The length of what has come; 0 is the end of a connection.
    fn receive(&self) -> io::Result<usize>;
}

impl End for TcpStream {
    fn send(&self, byte: u8) -> io::Result<()> {
        (&mut &*self).write_all(&[byte])
    }

    fn receive(&self) -> io::Result<usize> {
        (&mut &*self).read(&mut [0])
    }
}

impl End for UdpSocket {
    fn send(&self, byte: u8) -> io::Result<()> {
        UdpSocket::send(self, &[byte]).map(drop)
    }

    fn receive(&self) -> io::Result<usize> {
        self.recv(&mut [0])
    }
}

pub(super) fn over_tcp(path: &Path, cores: Cores, duration: Duration) -> Result<Reading> {
    let (from, to) = (path.from, path.to);
    let listener = to.namespace().run(|| TcpListener::bind((to.address(), 0))).context("a TCP socket")?;
    let address = listener.local_addr()?;
    let client = from.namespace().run(|| TcpStream::connect(address)).context("connect")?;
    let (server, _) = listener.accept().context("accept")?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
    }
    run(&client, &server, cores, duration, [Figure::TcpMedian, Figure::TcpTail, Figure::TcpFarTail])
}

pub(super) fn over_udp(path: &Path, cores: Cores, duration: Duration) -> Result<Reading> {
    let (client, server) = super::udp::replied_pair(path)?;
    for socket in [&client, &server] {
        socket.set_nonblocking(true)?;
    }
    run(&client, &server, cores, duration, [Figure::UdpMedian, Figure::UdpTail, Figure::UdpFarTail])
}

fn run(client: &impl End, server: &impl End, cores: Cores, duration: Duration, yields: [Figure; 3]) -> Result<Reading> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let serving = scope.spawn(|| serve(server, cores, &stop));
        let asking = scope.spawn(|| {
            let asked = ask(client, cores, duration, yields);
            stop.store(true, Ordering::Relaxed);
            asked
        });
        let asked = asking.join().expect("does not panic")?;
        serving.join().expect("does not panic")?;
        Ok(asked)
    })
}

fn ask(end: &impl End, cores: Cores, duration: Duration, yields: [Figure; 3]) -> Result<Reading> {
    cores::pin(cores.client)?;
    let begin = Instant::now();
    while begin.elapsed() < warm_up(duration) {
        round_trip(end, cores)?;
    }
    let (waited_before, from) = (cores::waited(), Instant::now());
    let mut nanoseconds = Vec::new();
    // A busy machine may have kept this end from its core for as long as a run lasts.
    while begin.elapsed() < duration || nanoseconds.is_empty() {
        nanoseconds.push(round_trip(end, cores)?.as_nanos() as f64);
    }
    let disturbed = cores::share(waited_before, cores::waited(), from.elapsed());
    nanoseconds.sort_by(f64::total_cmp);
    let values = yields.into_iter().zip([0.5, 0.99, 0.999].map(|share| quantile(&nanoseconds, share))).collect();
    Ok(Reading { values, disturbed, quantiles: Some(quantiles(&nanoseconds)) })
}

fn round_trip(end: &impl End, cores: Cores) -> Result<Duration> {
    let begin = Instant::now();
    end.send(1)?;
    loop {
        match end.receive() {
            Ok(0) => bail!("the far end closed the connection"),
            Ok(_) => return Ok(begin.elapsed()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => cores.relax(),
            Err(error) => return Err(error.into()),
        }
        ensure!(begin.elapsed() < PATIENCE, "no answer within {PATIENCE:?}");
    }
}

fn serve(end: &impl End, cores: Cores, stop: &AtomicBool) -> Result<()> {
    cores::pin(cores.server)?;
    while !stop.load(Ordering::Relaxed) {
        match end.receive() {
            Ok(0) => break,
            Ok(_) => end.send(1)?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => cores.relax(),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
