//! Where the pool comes from: a file, the platform's wire server or its instance metadata, followed in the background; or
//! azure-cns, which is asked for each attachment.
//!
//! The rule: what was known stays in use until something better is known, visibly stale. Of ADD only what azure-cns
//! answers waits for the network: there it is the protocol.

mod ask;
mod error;
mod follow;
mod health;
mod http;
mod known;
mod retry;
mod start;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub use ask::ask;
use azure_cni_ipam::{Pool, Withheld};
pub use error::{Problem, SourceError};
pub use follow::follow_source;
pub use health::Health;
pub use http::{Client, HttpError};
pub use known::Known;
use serde::{Deserialize, Serialize};
pub use start::{Found, at_start};
use tokio::sync::Notify;

use crate::config::{AgentConfig, PoolConfig, PoolSource};
use crate::net::Link;

/// Which source, and where it is: a URL or a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    pub source: PoolSource,
    pub from: String,
}

impl Origin {
    pub fn of(config: &PoolConfig) -> Self {
        let from = match config.source {
            PoolSource::File => config.file.display().to_string(),
            PoolSource::WireServer => config.wireserver_url.to_string(),
            PoolSource::Imds => config.imds_url.to_string(),
            PoolSource::Cns => config.cns_url.to_string(),
        };
        Self { source: config.source, from }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.source.name(), self.from)
    }
}

/// The source that an agent follows, and how it does.
#[derive(Debug)]
pub struct Followed {
    pub origin: Origin,
    health: Mutex<Health>,
    /// Somebody needs an address that is not there.
    needed: Notify,
    /// When the pool was last kept for the next start, in seconds since 1970.
    kept: AtomicU64,
}

/// How old the pool that is kept may look although it was confirmed meanwhile: not every look is worth a write.
const KEPT_SECS: u64 = 60;

impl Followed {
    pub fn new(origin: Origin, health: Health) -> Self {
        Self { origin, health: Mutex::new(health), needed: Notify::new(), kept: AtomicU64::new(0) }
    }

    /// To be held briefly.
    pub fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a pool for the next start. A disk that does not take it is no reason to stop: the next look tries again.
    pub(crate) fn keep(&self, config: &AgentConfig, uplink: &Link, pool: &Pool, now_unix_secs: u64) {
        let known = Known::new(self.origin.clone(), uplink.mac, now_unix_secs, pool.clone());
        match known.write(&config.state_dir) {
            Ok(()) => self.kept.store(now_unix_secs, Ordering::Relaxed),
            Err(error) => {
                tracing::error!(%error, dir = %config.state_dir.display(), "the pool could not be kept for the next start")
            }
        }
    }

    fn is_kept_too_long(&self, now_unix_secs: u64) -> bool {
        now_unix_secs.abs_diff(self.kept.load(Ordering::Relaxed)) >= KEPT_SECS
    }

    /// Has the source asked soon.
    pub fn hurry(&self) {
        self.needed.notify_one();
    }
}

/// The time, as it is kept on the disk: seconds since 1970.
pub(crate) fn unix_secs() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Names what the source lists for pods and no pod gets.
pub(crate) fn report_withheld(withheld: &[Withheld]) {
    for Withheld { address, reason } in withheld {
        tracing::warn!(%address, %reason, "listed for pods and never handed out");
    }
}
