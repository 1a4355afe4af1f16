//! When a call was made, on a clock that every process of the machine shares and nobody sets.
//!
//! The rule: moments compare within one boot of the kernel; whoever keeps one on disk keeps the boot's id beside it.

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Nanoseconds since the kernel booted, suspension included (`CLOCK_BOOTTIME`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootTime(u64);

impl BootTime {
    /// Before everything that happened in this boot.
    pub const BOOT: Self = Self(0);

    pub fn now() -> Self {
        // Linux has had the clock since 2.6.39; without it every moment would be that of the boot.
        let Ok(now) = clock_gettime(ClockId::CLOCK_BOOTTIME) else { return Self::BOOT };
        let secs = u64::try_from(now.tv_sec()).unwrap_or_default();
        Self(secs * 1_000_000_000 + u64::try_from(now.tv_nsec()).unwrap_or_default())
    }

    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    pub const fn as_nanos(self) -> u64 {
        self.0
    }
}

/// The name of this run of the kernel.
pub fn boot_id() -> std::io::Result<String> {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_and_one_boot_has_one_name() {
        let first = BootTime::now();
        assert!(BootTime::BOOT < first && first <= BootTime::now());
        let id = boot_id().unwrap();
        assert!(!id.is_empty() && id == boot_id().unwrap());
    }
}
