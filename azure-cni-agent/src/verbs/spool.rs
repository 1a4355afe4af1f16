//! Executes the requests that plugins left in the spool while no agent was there. A request that fails does not keep the
//! others from being tried.

use std::sync::Arc;

use azure_cni_api::cni::{AttachmentId, CniError};
use azure_cni_api::spool::{Folder, SpoolEntry, SpoolError, SpooledCall, SpooledRequest};

use super::del::detach;
use super::gc::collect;
use super::step_runner::StepRunner;
use crate::agent::Agent;

/// Executes what waits for this attachment, so that an earlier DEL cannot undo an ADD. The caller holds the lock.
pub(crate) async fn execute_before_add(agent: &Arc<Agent>, id: &AttachmentId) -> Result<(), SpoolError> {
    let folder = Folder::open(&agent.config.spool_dir)?;
    for name in folder.names()?.iter().filter(|name| SpooledRequest::is_named_for(name, id)) {
        execute(agent, &folder, name).await?;
    }
    Ok(())
}

/// Reads the request again, as the call that held the lock before may have executed it. False if it has to wait on.
pub(crate) async fn execute(agent: &Arc<Agent>, folder: &Folder, name: &str) -> Result<bool, SpoolError> {
    let request = match folder.read(name)? {
        SpoolEntry::Request(request) => request,
        SpoolEntry::Gone => return Ok(true),
        SpoolEntry::Malformed(problem) => {
            let aside = folder.set_aside(name)?;
            tracing::error!(name, problem, aside, "a request in the spool is not understood; it is set aside");
            return Ok(true);
        }
    };
    match free(agent, &request).await {
        Ok(Done::Freed) => tracing::info!(name, "a request that came while no agent was there is executed"),
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

async fn free(agent: &Arc<Agent>, request: &SpooledRequest) -> Result<Done, CniError> {
    match &request.call {
        SpooledCall::Del { attachment } => {
            let record = agent.record(attachment);
            if request.is_overtaken(&agent.boot_id, record.map(|record| record.requested_at)) {
                return Ok(Done::Overtaken);
            }
            detach(agent, attachment, &mut StepRunner::new(agent.faults)).await?;
        }
        SpooledCall::Gc { .. } if request.is_overtaken(&agent.boot_id, None) => return Ok(Done::Overtaken),
        SpooledCall::Gc { network, valid_attachments } => {
            let call = SpooledRequest::to_gc(network.clone(), valid_attachments.clone());
            collect(agent, &call, request.requested_at, &mut StepRunner::new(agent.faults)).await?;
        }
    }
    Ok(Done::Freed)
}
