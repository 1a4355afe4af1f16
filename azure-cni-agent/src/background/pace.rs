//! How often a task works that the kernel's messages call: the work is bounded, however many messages come.
//!
//! The rule: changes that come together cost one pass, and passes take a small part of the time.

use std::time::Duration;

/// Changes come in groups: kube-proxy and routing daemons write in pieces.
const SETTLE: Duration = Duration::from_millis(100);
/// After a pass, the next one waits so many times as long as it took.
const REST: u32 = 20;
/// And no longer than this.
const MAX_REST: Duration = Duration::from_secs(10);

/// Before a pass: whatever else changes now is part of it.
pub(super) async fn settle() {
    tokio::time::sleep(SETTLE).await;
}

/// After a pass.
pub(super) async fn rest(took: Duration) {
    tokio::time::sleep(rest_after(took)).await;
}

fn rest_after(took: Duration) -> Duration {
    (took * REST).min(MAX_REST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_takes_a_small_part_of_the_time_and_the_next_one_comes() {
        for (took_ms, rest_ms) in [(0, 0), (5, 100), (400, 8000), (60_000, 10_000)] {
            assert_eq!(rest_after(Duration::from_millis(took_ms)), Duration::from_millis(rest_ms));
        }
    }
}
