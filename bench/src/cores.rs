//! Cores of the two ends, and how much of them others took.

use std::{fs, hint, thread, time::Duration};

use anyhow::{Context, Result};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

/// Where the ends run. A veth has no interrupt: the softirq work of a packet is done on the core that sent it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Cores {
    pub(crate) client: usize,
    pub(crate) server: usize,
}

impl Cores {
    /// For an end that has nothing to do for a moment: it stays on its core, unless the other end needs the same core.
    pub(crate) fn relax(self) {
        if self.client == self.server { thread::yield_now() } else { hint::spin_loop() }
    }
}

/// Keeps the calling thread on a core.
pub(crate) fn pin(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core)
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &set))
        .with_context(|| format!("pin to core {core}"))
}

/// How long the calling thread has been ready to run without running, since it began.
pub(crate) fn waited() -> Option<Duration> {
    // Kernel Documentation/scheduler/sched-stats.rst: time on the cpu, time on the run queue, number of slices; ns.
    let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().nth(1)?.parse().ok().map(Duration::from_nanos)
}

/// The share of `elapsed` that passed between two readings of [`waited`].
pub(crate) fn share(before: Option<Duration>, after: Option<Duration>, elapsed: Duration) -> Option<f64> {
    Some((after? - before?).as_secs_f64() / elapsed.as_secs_f64())
}

/// The processor time that the calling thread has used. A packet's softirq work is done on behalf of the thread that sent
/// it, and is in here.
pub(crate) fn used() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes one timespec, to one that lives longer than the call.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0, "a thread can always read its own clock");
    Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec as u32)
}
