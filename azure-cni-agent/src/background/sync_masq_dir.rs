//! Reads `routing.masq_dir`, and publishes routes if its files have changed.

use crate::agent::Agent;
use crate::routing::{MasqDirUpdate, Snapshot};
use crate::verbs::publish_routes;

pub(super) async fn sync_masq_dir(agent: &Agent) -> anyhow::Result<()> {
    let Some(dir) = agent.routing().config.masq_dir.clone() else { return Ok(()) };
    let (dir, read) = tokio::task::spawn_blocking(move || {
        let read = Snapshot::read(&dir);
        (dir, read)
    })
    .await?;
    let update = agent.routing().update_masq_dir(&dir, read);
    match update {
        MasqDirUpdate::Unchanged => {}
        MasqDirUpdate::Refused(error) => {
            tracing::error!(%error, "routing.masq_dir is not understood; what was in force stays")
        }
        MasqDirUpdate::Changed => {
            publish_routes(agent).await?;
            tracing::info!(
                prefixes = agent.routing().unmasqueraded().len(),
                "routing.masq_dir has changed; routes are published"
            );
        }
    }
    Ok(())
}
