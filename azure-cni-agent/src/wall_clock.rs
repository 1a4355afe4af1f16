//! The time of day, for what outlives a boot: files on disk and messages to operators. Anyone may set this clock, so use
//! [`azure_cni_api::boot_time`] to measure how much time has passed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds since 1970.
pub fn unix_secs() -> u64 {
    since_1970().as_secs()
}

/// Milliseconds since 1970.
pub fn unix_ms() -> u64 {
    since_1970().as_millis() as u64
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
