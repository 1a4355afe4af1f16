//! What a pod's traffic through source NAT notices of its agent's restart, and of its agent's death.
//!
//! Numbered datagrams at a steady rate; the receiver keeps when each came. Beside the gap with a restart stands the gap of the
//! same stream left alone: a busy machine makes gaps of its own.

use std::{
    net::UdpSocket,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use azure_cni_tests::Vm;

use crate::{
    collect::Collector,
    cores::{self, Cores},
    load,
    path::Path,
    plan::Plan,
    progress::{Part, Progress},
    subject::Topic,
    testbed::Testbed,
    unit::Unit,
    variant::Variant,
};

/// Between two datagrams.
const INTERVAL: Duration = Duration::from_micros(100);
/// The stream goes on for so long around what happens to the agent.
const AROUND: Duration = Duration::from_millis(250);

#[derive(Clone, Copy)]
enum AgentEvent {
    Nothing,
    Restart,
    Death,
}

impl AgentEvent {
    const ALL: [Self; 3] = [Self::Nothing, Self::Restart, Self::Death];

    fn name(self) -> &'static str {
        match self {
            Self::Nothing => "left-alone",
            Self::Restart => "restarted",
            Self::Death => "killed",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Nothing => "agent left alone",
            Self::Restart => "agent stopped and started",
            Self::Death => "agent killed and started",
        }
    }

    fn apply(self, vm: &Vm) -> Result<()> {
        match self {
            Self::Nothing => thread::sleep(AROUND),
            Self::Restart => vm.restart_agent()?,
            Self::Death => {
                vm.kill_agent()?;
                vm.start_agent()?;
            }
        }
        Ok(())
    }
}

pub(crate) fn measure(
    plan: &Plan,
    testbed: &Testbed,
    cores: Cores,
    collector: &mut Collector,
    progress: &Progress,
) -> Result<()> {
    if !plan.has(Topic::Restart) || !plan.has_variant(Variant::Ours) {
        return Ok(());
    }
    progress.begin(Part::Restart);
    let edge = &testbed.site(Variant::Ours).context("ours has no VM at the Internet")?.edge;
    let path = edge.to_internet();
    for round in 0..plan.rounds {
        for event in AgentEvent::ALL {
            progress.step(&format!("round {}/{}  {}", round + 1, plan.rounds, event.title()));
            let seen = stream(&path, cores, || event.apply(edge.vm))?;
            let (name, title) = (event.name(), event.title());
            let mut take = |figure: &str, what: &str, unit, sample| {
                collector.sample(
                    &format!("restart/{name}-{figure}"),
                    &format!("{title}, {what}"),
                    None,
                    unit,
                    Variant::Ours,
                    sample,
                );
            };
            take("lost", "datagrams lost", Unit::Count, seen.lost as f64);
            take("gap", "longest gap between two", Unit::Nanoseconds, seen.gap.as_nanos() as f64);
        }
    }
    Ok(())
}

/// What the receiver noticed.
struct Seen {
    lost: u64,
    gap: Duration,
}

fn stream(path: &Path, cores: Cores, happen: impl FnOnce() -> Result<()>) -> Result<Seen> {
    let (sender, receiver) = load::udp::replied_pair(path)?;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let sending = scope.spawn(|| send(&sender, cores.client, &over));
        let receiving = scope.spawn(|| receive(&receiver, cores.server));
        thread::sleep(AROUND);
        let happened = happen();
        thread::sleep(AROUND);
        over.store(true, Ordering::Relaxed);
        let sent = sending.join().expect("does not panic")?;
        let (received, gap) = receiving.join().expect("does not panic")?;
        happened?;
        ensure!(received > 0, "not one of {sent} datagrams arrived");
        Ok(Seen { lost: sent.saturating_sub(received), gap })
    })
}

/// Returns how many were sent, the last of them empty.
fn send(socket: &UdpSocket, core: usize, over: &AtomicBool) -> Result<u64> {
    cores::pin(core)?;
    let (begin, mut sent) = (Instant::now(), 0u32);
    while !over.load(Ordering::Relaxed) {
        socket.send(&[1])?;
        sent += 1;
        thread::sleep((begin + INTERVAL * sent).saturating_duration_since(Instant::now()));
    }
    // More than one, should it be the one that is lost.
    for _ in 0..10 {
        socket.send(&[])?;
    }
    Ok(sent.into())
}

/// Returns how many came before the end, and the longest time between two of them.
fn receive(socket: &UdpSocket, core: usize) -> Result<(u64, Duration)> {
    cores::pin(core)?;
    let (mut received, mut gap, mut last) = (0, Duration::ZERO, None::<Instant>);
    while socket.recv(&mut [0]).context("no datagram for seconds")? > 0 {
        let now = Instant::now();
        gap = gap.max(last.map_or(Duration::ZERO, |last| now - last));
        (received, last) = (received + 1, Some(now));
    }
    Ok((received, gap))
}
