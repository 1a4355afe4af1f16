//! Why an attachment got no addresses.

use azure_cni_ipam::NoAddress;

use super::cns::CnsError;

#[derive(Debug, thiserror::Error)]
pub enum NotLeased {
    /// The cause says whether a retry helps.
    #[error(transparent)]
    Pool(#[from] NoAddress),
    /// The cause says whether a retry helps.
    #[error(transparent)]
    Cns(#[from] CnsError),
}
