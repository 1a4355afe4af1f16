//! STATUS: whether this node's network works. Runtimes poll it: it writes nothing and asks no server.
//!
//! The rule: to a runtime a failure means that the node is not ready, and after minutes its pods are evicted. So STATUS fails
//! for what leaves pods without a network, and for nothing else.

use std::sync::Arc;

use azure_cni_api::cni::{CniError, StatusCall};

use super::rejection::rejection;
use crate::agent::Agent;
use crate::findings;

/// Fails with everything that is wrong with the node.
pub async fn status(agent: &Arc<Agent>, call: StatusCall) -> Result<(), CniError> {
    if let Some(problem) = rejection(agent, &call.config) {
        return Err(CniError::invalid_config(problem));
    }
    match findings::summary(&findings::of_node(agent).await) {
        None => Ok(()),
        Some(problems) => Err(CniError::limited_connectivity(problems)
            .with_details("no pod can be added, and those that exist may be cut off")),
    }
}
