//! A failed call, by where it failed. The agent's errors are passed on unchanged.

use azure_cni_api::cni::{CniError, ErrorObject};

pub(crate) enum Failure {
    Plugin(CniError),
    Agent(ErrorObject),
}

impl From<CniError> for Failure {
    fn from(error: CniError) -> Self {
        Self::Plugin(error)
    }
}
