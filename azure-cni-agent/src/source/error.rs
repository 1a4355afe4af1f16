//! Why a source gave no pool: which source, where it is, and what was wrong.

use azure_cni_ipam::PoolError;
use azure_cni_ipam::listing::ListingError;

use super::origin::Origin;
use crate::http::HttpError;

/// While the source stays as it is, a retry helps only where [`Problem`] says so.
#[derive(Debug, thiserror::Error)]
#[error("address pool from {origin}: {problem}")]
pub struct SourceError {
    pub origin: Origin,
    #[source]
    pub problem: Problem,
}

#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// [`HttpError`] says whether a retry helps.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// A retry helps once the file is there and readable.
    #[error("{0}; name the file that lists the addresses in pool.file")]
    File(#[from] std::io::Error),
    /// A retry helps once the document has changed.
    #[error(transparent)]
    Listing(#[from] ListingError),
    /// A retry does not help: the source gives each attachment its addresses.
    #[error("it lists no addresses beforehand")]
    Unlisted,
    /// A retry helps once the source lists the uplink as it should.
    #[error("for uplink {uplink}: {source}")]
    Pool { uplink: String, source: PoolError },
}
