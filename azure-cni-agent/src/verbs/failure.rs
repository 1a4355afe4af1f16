//! Why a step fails, and the one place where failures turn into CNI errors.

use std::time::Duration;

use azure_cni_api::cni::CniError;
use azure_cni_datapath::DatapathError;

use crate::endpoint::EndpointError;
use crate::leases::NotLeased;
use crate::leases::cns::CnsError;
use crate::net::NetError;
use crate::programs::ProgramError;
use crate::state::{AttachmentRecord, StoreError};
use crate::steps::InjectedFault;

/// A step that failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Lease(#[from] NotLeased),
    #[error(transparent)]
    Net(#[from] NetError),
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    #[error(transparent)]
    Datapath(#[from] DatapathError),
    #[error(transparent)]
    Program(#[from] ProgramError),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The agent cannot serve this network; a retry does not help.
    #[error("{0}")]
    Rejected(String),
    /// The kernel or the disk is too busy; a retry may help.
    #[error("step {step} took longer than {} s", limit.as_secs())]
    Overdue { step: &'static str, limit: Duration },
    /// The node is not ready for pods; a retry helps once it is.
    #[error("{0}")]
    NotReady(String),
    #[error(transparent)]
    Injected(#[from] InjectedFault),
}

/// A record without an IPv4 address is not one of ours.
pub fn no_ipv4(record: &AttachmentRecord) -> CniError {
    CniError::internal(format!("attachment {} has no IPv4 address", record.id))
}

impl From<Failure> for CniError {
    fn from(failure: Failure) -> CniError {
        let text = failure.to_string();
        match failure {
            Failure::Lease(NotLeased::Pool(error)) if error.source.retry_helps() => CniError::try_again(text),
            Failure::Lease(NotLeased::Pool(_) | NotLeased::Cns(CnsError::Public | CnsError::Other { .. })) => {
                CniError::invalid_config(text)
            }
            Failure::Lease(NotLeased::Withheld { reason, .. }) if !reason.is_by_node() => {
                CniError::invalid_config(text)
            }
            Failure::Lease(_) | Failure::Overdue { .. } | Failure::NotReady(_) => CniError::try_again(text),
            Failure::Rejected(_) => CniError::invalid_config(text),
            Failure::Net(error) if error.exists() => CniError::interface_exists(text),
            Failure::Net(_) | Failure::Store(_) => CniError::io(text),
            Failure::Endpoint(_) | Failure::Datapath(_) | Failure::Program(_) | Failure::Injected(_) => {
                CniError::internal(text)
            }
        }
    }
}
