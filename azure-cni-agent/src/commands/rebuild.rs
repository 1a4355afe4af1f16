//! An attachment whose veth pair is gone though its namespace lives gets a new one, with the addresses it has.

use std::sync::Arc;

use azure_cni_api::cni::CniError;
use azure_cni_api::labels;

use super::addresses_of;
use super::build::build;
use super::error::Failure;
use super::step::Step;
use super::steps::Steps;
use crate::agent::Agent;
use crate::endpoint::{Endpoint, EndpointError};
use crate::net::Netns;
use crate::state::AttachmentRecord;
use crate::undo::Undo;

/// For a caller that has the attachment's turn. All or nothing, but for the pod that has what it needs in the way.
pub(crate) async fn rebuild(agent: &Arc<Agent>, record: AttachmentRecord) -> Result<(), CniError> {
    let netns = Netns::open(&record.netns).map_err(EndpointError::from).map_err(Failure::from)?;
    if record.netns_id != Some(netns.id()) {
        let text = format!("{} is another network namespace than at ADD", record.netns.display());
        return Err(CniError::invalid_netns(text));
    }
    let endpoint = Endpoint {
        addresses: addresses_of(&record)?,
        node_addresses: agent.pool().primaries(),
        host_interface: record.host_interface.clone(),
        pod_interface: record.id.ifname.to_string(),
        pod_mac: record.pod_mac,
        mtu: record.mtu,
    };
    let alias = labels::alias(&record.id, &record.netns);
    let (mut steps, mut undo) = (Steps::default(), Undo::default());
    let done = async {
        let host_ifindex = build(agent, &endpoint, &alias, &netns, record.keep_source, &mut steps, &mut undo).await?;
        let (store, written) = (agent.store.clone(), AttachmentRecord { host_ifindex, ..record });
        steps.run_blocking(Step::Record, move || Ok(store.put(&written)?)).await
    };
    match done.await {
        Ok(()) => Ok(()),
        Err(failure) => {
            steps.settle().await;
            undo.run().await;
            Err(failure.into())
        }
    }
}
