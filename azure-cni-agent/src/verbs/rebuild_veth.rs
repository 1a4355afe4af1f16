//! Rebuilds the veth pair of an attachment whose namespace lives. The attachment keeps its addresses.

use std::sync::Arc;

use azure_cni_api::cni::CniError;
use azure_cni_api::labels;

use super::build_endpoint::build_endpoint;
use super::failure::{Failure, no_ipv4};
use super::step_runner::StepRunner;
use super::undo::Undo;
use crate::agent::Agent;
use crate::endpoint::{Endpoint, EndpointError, PodOptions};
use crate::net::Netns;
use crate::state::AttachmentRecord;
use crate::steps::Step;

/// The caller holds the attachment's lock. All or nothing: if a step fails, the steps before it are undone.
pub async fn rebuild_veth(agent: &Arc<Agent>, record: AttachmentRecord) -> Result<(), CniError> {
    let netns = Netns::open(&record.netns).map_err(EndpointError::from).map_err(Failure::from)?;
    if record.netns_id != Some(netns.id()) {
        let text = format!("{} is another network namespace than at ADD", record.netns.display());
        return Err(CniError::invalid_netns(text));
    }
    let mut endpoint = Endpoint::of_record(&record, agent.pool().primaries()).ok_or_else(|| no_ipv4(&record))?;
    let alias = labels::alias(&record.id, &record.netns);
    let (mut steps, mut undo) = (StepRunner::default(), Undo::default());
    let done = async {
        let host_ifindex =
            build_endpoint(agent, &mut endpoint, &alias, &netns, PodOptions::of_record(&record), &mut steps, &mut undo)
                .await?;
        let (store, written) =
            (agent.store.clone(), AttachmentRecord { host_ifindex, own_table: endpoint.table.is_some(), ..record });
        steps.run_blocking(Step::Record, move || Ok(store.put(&written)?)).await
    };
    match done.await {
        Ok(()) => Ok(()),
        Err(failure) => {
            steps.wait_for_overdue().await;
            undo.run().await;
            Err(failure.into())
        }
    }
}
