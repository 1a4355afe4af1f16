//! The first step of a call: it waits until no other call works on the attachment.

use azure_cni_api::cni::{AttachmentId, CniError};
use tokio::sync::OwnedMutexGuard;

use super::failure::Failure;
use super::step_runner::StepRunner;
use crate::agent::Agent;
use crate::steps::Step;

/// Locks the attachment. If another call holds the lock for too long, the runtime is to try again.
pub async fn lock(agent: &Agent, id: &AttachmentId, steps: &mut StepRunner) -> Result<OwnedMutexGuard<()>, CniError> {
    let lock = steps.run(Step::Lock, async { Ok::<_, Failure>(agent.locks.lock(id).await) }).await;
    lock.map_err(|failure| {
        CniError::from(failure).with_details(format!("another call for attachment {id} is still at work"))
    })
}
