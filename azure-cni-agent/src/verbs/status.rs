//! STATUS: whether this node's network works. Runtimes poll it: it writes nothing and asks no server.
//!
//! The rule: to a runtime a failure means that the node is not ready, and after minutes its pods are evicted. So STATUS fails
//! for what leaves pods without a network, and for nothing else: not for a network configuration that ADD refuses either, with which
//! the pods that exist have nothing to do.

use std::sync::{Arc, PoisonError};

use azure_cni_api::cni::{CniError, StatusCall};

use super::rejection::rejection;
use crate::agent::Agent;
use crate::findings;

/// Fails with everything that is wrong with the node.
pub async fn status(agent: &Arc<Agent>, call: StatusCall) -> Result<(), CniError> {
    let refused = rejection(agent, &call.config);
    let refused = refused.map(|problem| format!("pods of network {} are refused: {problem}", call.config.name));
    *agent.refused_network.lock().unwrap_or_else(PoisonError::into_inner) = refused;
    match findings::summary(&findings::of_node(agent).await) {
        None => Ok(()),
        Some(problems) => Err(CniError::limited_connectivity(problems)
            .with_details("no pod can be added, and those that exist may be cut off")),
    }
}
