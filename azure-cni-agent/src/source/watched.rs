//! The source as the agent holds it: where it is, how healthy it is, and when its pool was last stored.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use azure_cni_ipam::Pool;
use tokio::sync::Notify;

use super::confirmed_pool::ConfirmedPool;
use super::health::Health;
use super::origin::Origin;
use crate::config::AgentConfig;
use crate::net::Link;

/// The source that an agent watches.
#[derive(Debug)]
pub struct WatchedSource {
    pub origin: Origin,
    health: Mutex<Health>,
    /// A pod needs an address and the pool has none.
    needed: Notify,
    /// When the pool was last stored for the next start, in seconds since 1970.
    stored_unix_secs: AtomicU64,
}

/// How old the stored confirmation may get while the source goes on confirming the same pool: a write for every poll would
/// be too many.
const MAX_STORED_AGE_SECS: u64 = 60;

impl WatchedSource {
    pub fn new(origin: Origin, health: Health) -> Self {
        Self { origin, health: Mutex::new(health), needed: Notify::new(), stored_unix_secs: AtomicU64::new(0) }
    }

    /// Hold it briefly.
    pub fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores a pool for the next start. A failed write does not stop the agent: the next poll tries again.
    pub(crate) fn store_pool(&self, config: &AgentConfig, uplink: &Link, pool: &Pool, now_unix_secs: u64) {
        let confirmed = ConfirmedPool::new(self.origin.clone(), uplink.mac, now_unix_secs, pool.clone());
        match confirmed.write(&config.state_dir) {
            Ok(()) => self.stored_unix_secs.store(now_unix_secs, Ordering::Relaxed),
            Err(error) => {
                tracing::error!(%error, dir = %config.state_dir.display(), "cannot store the pool for the next start")
            }
        }
    }

    pub(crate) fn stored_pool_is_old(&self, now_unix_secs: u64) -> bool {
        now_unix_secs.abs_diff(self.stored_unix_secs.load(Ordering::Relaxed)) >= MAX_STORED_AGE_SECS
    }

    /// Asks for a poll of the source soon.
    pub fn hurry(&self) {
        self.needed.notify_one();
    }

    /// Returns once [`WatchedSource::hurry`] was called.
    pub(crate) async fn hurried(&self) {
        self.needed.notified().await;
    }
}
