//! Time since boot, on a clock that all processes share and no process can set.
//!
//! The rule: compare times within one boot only. Store the boot's id next to every time on disk.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Nanoseconds since the kernel booted, suspension included (`CLOCK_BOOTTIME`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootTime(u64);

impl BootTime {
    /// The moment of the boot itself.
    pub const BOOT: Self = Self(0);

    pub fn now() -> Self {
        // Linux has this clock since 2.6.39.
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

    /// The same as a length of time, for code that takes the time as an argument and knows no boot.
    pub const fn since_boot(self) -> Duration {
        Duration::from_nanos(self.0)
    }
}

/// The kernel's id of this boot.
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
