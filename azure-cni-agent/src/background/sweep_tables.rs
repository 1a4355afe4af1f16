//! Removes expired flows and translations from the data path's tables, a piece at a time, so that their memory is free for
//! new ones.

use std::sync::Arc;
use std::time::Duration;

use azure_cni_datapath::{SweepReport, Sweeper};
use nix::time::{ClockId, clock_gettime};

use crate::agent::Agent;

/// Runs until the agent ends.
pub(super) async fn sweep_tables(agent: Arc<Agent>) {
    let mut sweeper = Sweeper::default();
    loop {
        let agent = agent.clone();
        let step = tokio::task::spawn_blocking(move || {
            let report = agent.datapath.tables().sweep(&mut sweeper, monotonic_ns());
            (report, sweeper)
        });
        // A panic ends this sweep only. The next one starts from the beginning.
        let (report, next) = match step.await {
            Ok((report, sweeper)) => (report, sweeper),
            Err(panic) => {
                tracing::error!(%panic, "sweeping expired flows");
                (Ok(SweepReport::default()), Sweeper::default())
            }
        };
        sweeper = next;
        let report = report.unwrap_or_else(|error| {
            tracing::error!(%error, "sweeping expired flows");
            SweepReport::default()
        });
        if report.removed_flows + report.removed_translations > 0 {
            let SweepReport { removed_flows, removed_translations, fill } = report;
            tracing::debug!(flows = removed_flows, translations = removed_translations, fill, "swept");
        }
        tokio::time::sleep(report.pause()).await;
    }
}

/// The clock of the data path's expiry times. Every Linux has it; if it failed, zero would let nothing expire.
fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
    now.as_nanos() as u64
}
