//! Where the pool comes from: the platform's wire server, its instance metadata, a file, or azure-cns. What is here reads
//! a source once and remembers what it said; the agent's background tasks poll it.
//!
//! The rule: the last confirmed pool stays in use until the source confirms another one, and `status` shows how old it is.

mod candidates;
mod confirmed_pool;
mod error;
mod fetch;
mod health;
mod initial_pool;
mod origin;
mod platform;
mod watched;

use azure_cni_ipam::{Pool, Withheld};
pub use confirmed_pool::ConfirmedPool;
pub use error::{Problem, SourceError};
pub use fetch::fetch_pool;
pub use health::Health;
pub use initial_pool::{InitialPool, initial_pool, primaries_of};
pub use origin::{Kind, Origin};
pub use watched::WatchedSource;

/// How many addresses the log names.
const MAX_LOGGED: usize = 64;

/// Names what the source lists and no pod gets.
pub(crate) fn report_left_out(pool: &Pool, withheld: &[Withheld]) {
    for oddity in &pool.oddities {
        tracing::warn!(oddity, "the source lists something odd");
    }
    for Withheld { address, reason } in withheld.iter().take(MAX_LOGGED) {
        tracing::warn!(%address, %reason, "the source lists this address for pods, but no pod gets it");
    }
}
