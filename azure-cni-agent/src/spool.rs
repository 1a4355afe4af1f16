//! The agent's side: carrying out what waits. One request that fails keeps none of the others from being tried.

use std::sync::Arc;

use azure_cni_api::cni::{AttachmentId, CniError};
use azure_cni_api::spool::{Folder, SpoolEntry, SpoolError, SpooledCall, SpooledRequest};

use crate::agent::Agent;
use crate::commands::{Steps, collect, detach};

/// Carries out every request that waits, oldest first; how many still do. To be called before the agent serves, and on
/// a timer.
pub(crate) async fn sweep(agent: &Arc<Agent>) -> Result<usize, SpoolError> {
    let folder = Folder::open(&agent.config.spool_dir)?;
    folder.remove_unfinished()?;
    let mut waiting = 0;
    for name in folder.names()? {
        let _turn = match folder.read(&name)? {
            SpoolEntry::Request(SpooledRequest { call: SpooledCall::Del { attachment }, .. }) => {
                Some(agent.turns.wait_for(&attachment).await)
            }
            _ => None,
        };
        if !carry_out(agent, &folder, &name).await? {
            waiting += 1;
        }
    }
    Ok(waiting)
}

/// Carries out what waits for this attachment, whose turn the caller has: an ADD must not be undone by a DEL before it.
pub(crate) async fn carry_out_before_add(agent: &Arc<Agent>, id: &AttachmentId) -> Result<(), SpoolError> {
    let folder = Folder::open(&agent.config.spool_dir)?;
    for name in folder.names()?.iter().filter(|name| SpooledRequest::is_named_for(name, id)) {
        carry_out(agent, &folder, name).await?;
    }
    Ok(())
}

/// Reads the request anew, as whoever had the turn before may have carried it out; false if it has to wait on.
async fn carry_out(agent: &Arc<Agent>, folder: &Folder, name: &str) -> Result<bool, SpoolError> {
    let request = match folder.read(name)? {
        SpoolEntry::Request(request) => request,
        SpoolEntry::Gone => return Ok(true),
        SpoolEntry::Malformed(problem) => {
            let aside = folder.set_aside(name)?;
            tracing::error!(name, problem, aside, "a request in the spool is not understood; it is set aside");
            return Ok(true);
        }
    };
    match perform(agent, &request).await {
        Ok(Done::Freed) => tracing::info!(name, "a request that came while no agent was there is carried out"),
        Ok(Done::Overtaken) => tracing::info!(name, "a request in the spool is overtaken; it is dropped"),
        Err(error) => {
            tracing::error!(name, %error, "a request in the spool failed; it is tried again later");
            return Ok(false);
        }
    }
    folder.remove(name)?;
    Ok(true)
}

enum Done {
    Freed,
    Overtaken,
}

async fn perform(agent: &Arc<Agent>, request: &SpooledRequest) -> Result<Done, CniError> {
    match &request.call {
        SpooledCall::Del { attachment } => {
            let record = agent.record(attachment).await.map_err(|error| CniError::io(error.to_string()))?;
            if request.is_overtaken(&agent.boot_id, record.map(|record| record.asked)) {
                return Ok(Done::Overtaken);
            }
            detach(agent, attachment, &mut Steps::new(agent.faults)).await?;
        }
        SpooledCall::Gc { .. } if request.is_overtaken(&agent.boot_id, None) => return Ok(Done::Overtaken),
        SpooledCall::Gc { network, valid_attachments } => {
            let call = SpooledRequest::to_gc(network.clone(), valid_attachments.clone());
            collect(agent, &call, request.requested_at, &mut Steps::new(agent.faults)).await?;
        }
    }
    Ok(Done::Freed)
}
