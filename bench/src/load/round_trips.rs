//! How long one byte takes there and back over an open TCP connection.
//!
//! Both ends ask their socket without sleeping: the wake-up of an idle core takes several times as long as the packets' way,
//! and differs from one to the next by more.

use std::{
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use super::{Cores, Reading, core, warm_up};
use crate::{figure::Figure, statistics::quantile, testbed::Lane};

/// No answer within so long is a broken path.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) fn run(lane: &Lane, cores: Cores, duration: Duration) -> Result<Reading> {
    let (from, to) = (lane.from, lane.to);
    let listener = to.namespace().run(|| TcpListener::bind((to.address(), 0))).context("a TCP socket")?;
    let address = listener.local_addr()?;
    let client = from.namespace().run(|| TcpStream::connect(address)).context("connect")?;
    let (server, _) = listener.accept().context("accept")?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
    }
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let serving = scope.spawn(|| serve(&server, cores, &stop));
        let asking = scope.spawn(|| {
            let asked = ask(&client, cores, duration);
            stop.store(true, Ordering::Relaxed);
            asked
        });
        let asked = asking.join().expect("does not panic")?;
        serving.join().expect("does not panic")?;
        Ok(asked)
    })
}

fn ask(stream: &TcpStream, cores: Cores, duration: Duration) -> Result<Reading> {
    core::pin(cores.client)?;
    let begin = Instant::now();
    while begin.elapsed() < warm_up(duration) {
        round_trip(stream, cores)?;
    }
    let (waited_before, from) = (core::waited(), Instant::now());
    let mut nanoseconds = Vec::new();
    while begin.elapsed() < duration {
        nanoseconds.push(round_trip(stream, cores)?.as_nanos() as f64);
    }
    let disturbed = core::share(waited_before, core::waited(), from.elapsed());
    ensure!(!nanoseconds.is_empty(), "not one round trip was completed");
    nanoseconds.sort_by(f64::total_cmp);
    let values =
        vec![(Figure::LatencyMedian, quantile(&nanoseconds, 0.5)), (Figure::LatencyTail, quantile(&nanoseconds, 0.99))];
    Ok(Reading { values, disturbed })
}

fn round_trip(mut stream: &TcpStream, cores: Cores) -> Result<Duration> {
    let begin = Instant::now();
    stream.write_all(&[1])?;
    let mut answer = [0];
    loop {
        match stream.read(&mut answer) {
            Ok(0) => bail!("the far end closed the connection"),
            Ok(_) => return Ok(begin.elapsed()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => cores.relax(),
            Err(error) => return Err(error.into()),
        }
        ensure!(begin.elapsed() < PATIENCE, "no answer within {PATIENCE:?}");
    }
}

fn serve(mut stream: &TcpStream, cores: Cores, stop: &AtomicBool) -> Result<()> {
    core::pin(cores.server)?;
    let mut request = [0];
    while !stop.load(Ordering::Relaxed) {
        match stream.read(&mut request) {
            Ok(0) => break,
            Ok(_) => stream.write_all(&request)?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => cores.relax(),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
