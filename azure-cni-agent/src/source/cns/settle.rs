//! Delivers the releases that are owed to azure-cns: in the background, until each is taken.

use std::sync::Arc;
use std::time::Duration;

use azure_cni_ipam::cns::Claim;
use azure_cni_ipam::{PollOutcome, Schedule};

use super::{Cns, CnsError};
use crate::agent::Agent;

/// Runs until the agent ends.
pub async fn settle(agent: Arc<Agent>) {
    let Some(cns) = &agent.cns else { return };
    let config = &agent.config.pool;
    let [min, max] = [config.refresh_min_secs, config.refresh_max_secs].map(Duration::from_secs);
    let mut schedule = Schedule::new(min, max, agent.now());
    loop {
        let outcome = match deliver_all(&agent, cns).await {
            Ok(()) => PollOutcome::Quiet,
            Err(error) => {
                tracing::warn!(%error, "a release is owed to azure-cns; trying again");
                agent.source.health().failed(error.to_string());
                PollOutcome::AskSoon
            }
        };
        schedule.polled(outcome, agent.now(), fastrand::f64());
        let pause = schedule.due().saturating_sub(agent.now());
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = cns.owed.notified() => {}
        }
    }
}

/// The first failure ends the round: a server that does not take one release takes no other.
async fn deliver_all(agent: &Agent, cns: &Cns) -> Result<(), CnsError> {
    let claims = cns.claims.all().await?;
    for claim in claims.iter().filter(|claim| agent.lease_of(&claim.id).is_none()) {
        let _turn = agent.turns.wait_for(&claim.id).await;
        // Its ADD may just have come to its end.
        if agent.lease_of(&claim.id).is_some() {
            continue;
        }
        // Two containers may look the same to the server: what one of them has is not given back for the other.
        if !claims.iter().any(|other| is_shared(agent, claim, other)) {
            cns.client.release(claim).await?;
            agent.source.health().succeeded(crate::source::unix_secs());
            tracing::info!(attachment = %claim.id, "released at azure-cns");
        }
        cns.claims.remove(&claim.id).await?;
    }
    Ok(())
}

fn is_shared(agent: &Agent, claim: &Claim, other: &Claim) -> bool {
    other.id != claim.id && other.pod_interface_id() == claim.pod_interface_id() && agent.lease_of(&other.id).is_some()
}
