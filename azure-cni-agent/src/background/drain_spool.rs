//! Executes the requests in the spool: before the agent serves, and on a timer, as a plugin may have stored one just before
//! the agent listened.

use std::sync::Arc;

use azure_cni_api::spool::{Folder, SpoolEntry, SpoolError, SpooledCall, SpooledRequest};

use crate::agent::Agent;
use crate::verbs::spool;

/// Executes every request that waits, oldest first. Returns how many still wait, because they failed.
pub(crate) async fn drain_spool(agent: &Arc<Agent>) -> Result<usize, SpoolError> {
    let folder = Folder::open(&agent.config.spool_dir)?;
    folder.remove_unfinished()?;
    let mut waiting = 0;
    for name in folder.names()? {
        let _lock = match folder.read(&name)? {
            SpoolEntry::Request(SpooledRequest { call: SpooledCall::Del { attachment }, .. }) => {
                Some(agent.locks.lock(&attachment).await)
            }
            _ => None,
        };
        if !spool::execute(agent, &folder, &name).await? {
            waiting += 1;
        }
    }
    Ok(waiting)
}
