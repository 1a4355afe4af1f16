//! Brings the data path in line with what is in force: routes and the flags of endpoints.

use std::net::IpAddr;
use std::sync::Arc;

use azure_cni_datapath::{DatapathError, Endpoint};

use super::{Looked, Snapshot};
use crate::agent::Agent;
use crate::state::AttachmentRecord;
use crate::verbs::publish_routes;

/// Looks at `masq_dir`, and publishes what has changed there.
pub async fn follow_masq_dir(agent: &Agent) -> anyhow::Result<()> {
    let Some(dir) = agent.routing().config.masq_dir.clone() else { return Ok(()) };
    let (dir, read) = tokio::task::spawn_blocking(move || {
        let read = Snapshot::read(&dir);
        (dir, read)
    })
    .await?;
    let looked = agent.routing().take(&dir, read);
    match looked {
        Looked::Unchanged => {}
        Looked::Refused(error) => {
            tracing::error!(%error, "routing.masq_dir is not understood; what was in force stays")
        }
        Looked::Changed => {
            publish_routes(agent).await?;
            tracing::info!(
                prefixes = agent.routing().unmasqueraded.len(),
                "routing.masq_dir has changed; routes follow"
            );
        }
    }
    Ok(())
}

/// Gives standing endpoints the flags that records and configuration say. Of most nothing has changed, and no attachment's
/// turn is waited for.
pub async fn follow_endpoints(agent: &Arc<Agent>) -> anyhow::Result<()> {
    for record in agent.records().await? {
        if outdated(agent, &record)?.is_empty() {
            continue;
        }
        let _lock = agent.locks.lock(&record.id).await;
        // The pod may have ended meanwhile.
        let id = record.id.clone();
        let Some(record) = agent.with_store(move |store| store.get(&id)).await? else { continue };
        for (address, endpoint) in outdated(agent, &record)? {
            agent.datapath.tables().set_endpoint(address, endpoint)?;
            tracing::info!(attachment = %record.id, %address, flags = endpoint.flags.0, "its egress follows");
        }
    }
    Ok(())
}

/// Endpoints that the data path knows with other flags than they should have, as they should be.
fn outdated(agent: &Agent, record: &AttachmentRecord) -> Result<Vec<(IpAddr, Endpoint)>, DatapathError> {
    let mut outdated = Vec::new();
    for address in &record.addresses {
        let Some(known) = agent.datapath.tables().endpoint(*address)? else { continue };
        let wanted = agent.endpoint_entry(*address, known.ifindex, record.keep_source);
        if wanted != known {
            outdated.push((*address, wanted));
        }
    }
    Ok(outdated)
}
