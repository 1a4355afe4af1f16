//! Why azure-cns gave no address, or took none back.

use std::net::IpAddr;

use azure_cni_ipam::cns::CnsAnswerError;
use azure_cni_ipam::{LeasesRestoreError, Reserved};

use crate::http::HttpError;

#[derive(Debug, thiserror::Error)]
pub enum CnsError {
    /// A retry may help.
    #[error("azure-cns {url}: {source}")]
    Http { url: String, source: HttpError },
    /// A retry may help: addresses come free.
    #[error("azure-cns {url}: {source}")]
    Answer { url: String, source: CnsAnswerError },
    /// A retry helps once the other pod has ended.
    #[error("azure-cns gave an address that another pod of this node has: {0}")]
    Held(#[from] LeasesRestoreError),
    /// A retry helps if the server gives another address then.
    #[error("azure-cns gave {address}, which no pod gets: {reason}")]
    Withheld { address: IpAddr, reason: Reserved },
    /// A retry does not help.
    #[error("azure-cns gave other addresses than were requested: {given} instead of {requested}")]
    Other { requested: String, given: String },
    /// A retry does not help: azure-cns does not say which addresses have a public one.
    #[error("an address with a public address of its own was requested, and azure-cns does not say which have one")]
    Public,
    /// A retry helps once the disk can be written.
    #[error("claims in {}: {source}", path.display())]
    Claims { path: std::path::PathBuf, source: std::io::Error },
}
