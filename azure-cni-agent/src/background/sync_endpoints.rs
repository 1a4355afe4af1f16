//! Gives existing endpoints the flags, the limits and the MAC that follow from their records and the configuration, and puts the cache right
//! that the programs read them from. Entries that are missing are the reconciler's.

use std::net::IpAddr;
use std::sync::Arc;

use azure_cni_common::bandwidth::Limits;
use azure_cni_datapath::{DatapathError, EndpointEntry};

use crate::agent::Agent;
use crate::endpoint::PodOptions;
use crate::state::AttachmentRecord;

/// The name of the repair.
const CACHE_REPAIRED: &str = "endpoint-cache-repaired";

/// Waits for an attachment's lock only if its endpoint is not as it should be: for most nothing has changed.
pub(crate) async fn sync_endpoints(agent: &Arc<Agent>) -> anyhow::Result<()> {
    let repaired = agent.datapath.tables().repair_endpoint_cache()?;
    if repaired > 0 {
        tracing::warn!(action = CACHE_REPAIRED, count = repaired, "out of line; repaired");
        agent.count_repair(CACHE_REPAIRED);
    }
    for record in agent.records() {
        if outdated(agent, &record)?.is_empty() {
            continue;
        }
        let _lock = agent.locks.lock(&record.id).await;
        // The pod may have ended meanwhile.
        let Some(record) = agent.record(&record.id) else { continue };
        for (address, entry) in outdated(agent, &record)? {
            agent.set_endpoint(address, entry.ifindex, record.pod_mac, PodOptions::of_record(&record))?;
            tracing::info!(attachment = %record.id, %address, flags = entry.flags.0, "the endpoint has new flags, limits or a new MAC");
        }
    }
    Ok(())
}

/// Endpoints that are outdated in the data path, as they should be.
fn outdated(agent: &Agent, record: &AttachmentRecord) -> Result<Vec<(IpAddr, EndpointEntry)>, DatapathError> {
    let options = PodOptions::of_record(record);
    let mut outdated = Vec::new();
    for address in &record.addresses {
        let Some(current) = agent.datapath.tables().endpoint(*address)? else { continue };
        let wanted = agent.endpoint_entry(*address, current.ifindex, record.pod_mac, options);
        let limits = agent.datapath.tables().limits(current.ifindex)?.unwrap_or(Limits::NONE);
        if wanted != current || !limits.limits_like(&options.limits()) {
            outdated.push((*address, wanted));
        }
    }
    Ok(outdated)
}
