//! Processor time of the whole machine: what a load costs wherever the kernel does the work.

use std::{fs, time::Duration};

use anyhow::{Context, Result};
use nix::unistd::{SysconfVar, sysconf};

/// What all processors have spent on anything but idling, waiting for disks, and other machines, since the machine started.
pub(super) fn spent() -> Result<Duration> {
    let text = fs::read_to_string("/proc/stat").context("read /proc/stat")?;
    let ticks = busy_ticks(&text).with_context(|| format!("no line of all processors in /proc/stat:\n{text}"))?;
    let per_second = sysconf(SysconfVar::CLK_TCK)?.context("how many ticks does a second have?")?;
    Ok(Duration::from_secs_f64(ticks as f64 / per_second as f64))
}

/// proc_stat(5): user, nice, system, idle, iowait, irq, softirq, ...
fn busy_ticks(stat: &str) -> Option<u64> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
    let ticks = fields.map(|field| field.parse().ok()).collect::<Option<Vec<u64>>>()?;
    let [user, nice, system, _idle, _iowait, irq, softirq, ..] = ticks[..] else { return None };
    Some(user + nice + system + irq + softirq)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_and_stolen_time_are_left_out() {
        assert_eq!(busy_ticks("cpu  1 2 4 1000 1000 8 16 1000 0 0\ncpu0 9"), Some(31));
        assert_eq!(busy_ticks("intr 1"), None);
    }
}
