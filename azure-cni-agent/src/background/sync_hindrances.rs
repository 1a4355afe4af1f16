//! Reads what the node's rules do in the way of pods, for the operator's command to show.

use std::sync::PoisonError;
use std::time::Instant;

use super::sync_services::Pass;
use crate::agent::Agent;
use crate::net::Hindrances;

pub(super) async fn sync_hindrances(agent: &Agent) -> Pass {
    let started = Instant::now();
    let read = tokio::task::spawn_blocking(Hindrances::read).await;
    let is_true = match read {
        Ok(Ok(now)) => {
            *agent.hindrances.lock().unwrap_or_else(PoisonError::into_inner) = now;
            true
        }
        // The rules change just now: what was read before is shown until the next reading.
        Ok(Err(error)) => {
            tracing::debug!(%error, "reading what the node's rules do in the way of pods");
            false
        }
        // It would again. A panic is in the log.
        Err(_) => true,
    };
    Pass { took: started.elapsed(), is_true }
}
