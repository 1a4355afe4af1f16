//! The pod's network namespace.

use std::path::Path;

use azure_cni_api::cni::CniError;

use crate::net::Netns;

/// Opens the pod's namespace. It must not be the agent's own.
pub fn open_pod_netns(path: &Path) -> Result<Netns, CniError> {
    let netns = Netns::open(path).map_err(|error| CniError::invalid_netns(error.to_string()))?;
    let own = Netns::own().map_err(|error| CniError::internal(error.to_string()))?;
    if netns.id() == own.id() {
        let text = format!("{} is the node's own network namespace: a pod needs one of its own", path.display());
        return Err(CniError::invalid_netns(text));
    }
    Ok(netns)
}
