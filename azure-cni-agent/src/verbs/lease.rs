//! The step of ADD that gets an attachment its addresses, and publishes what the lease brought to light.
//!
//! The rule: an address that an interface of the host has is no pod's. The agent observes the host's addresses at intervals; here
//! it asks the kernel about the one address that a pod is about to get.

use std::net::IpAddr;

use azure_cni_api::cni::AddCall;
use azure_cni_ipam::Addresses;

use super::failure::Failure;
use super::publish_routes::{publish_routes, set_platform_gateway};
use crate::agent::Agent;
use crate::leases::{Leased, NotLeased};
use crate::wall_clock::unix_secs;

/// How many addresses the host may turn out to have before the call fails. Before the runtime tries again, the agent has observed
/// all of them.
const MAX_TRIES: u32 = 16;

pub(super) async fn lease(agent: &Agent, call: &AddCall) -> Result<Addresses, Failure> {
    let id = &call.attachment;
    let is_new = agent.leases.lease_of(id).is_none();
    let mut tries = 0;
    loop {
        tries += 1;
        let addresses = request(agent, call).await?;
        let taken = if is_new { held_by_host(agent, addresses).await? } else { None };
        let Some(address) = taken else { return Ok(addresses) };
        tracing::warn!(%address, "an interface of the host has this address, so no pod gets it");
        agent.leases.withhold_from_pods(address);
        agent.leases.release(id);
        // azure-cns has to take the release before it can give another address.
        if tries == MAX_TRIES || agent.leases.cns().is_some() {
            return Err(NotLeased::HeldByHost { address }.into());
        }
    }
}

async fn held_by_host(agent: &Agent, addresses: Addresses) -> Result<Option<IpAddr>, Failure> {
    for address in addresses.iter() {
        if agent.netlink.is_local(address).await? {
            return Ok(Some(address));
        }
    }
    Ok(None)
}

async fn request(agent: &Agent, call: &AddCall) -> Result<Addresses, Failure> {
    let leased = agent.leases.lease(&call.attachment, &call.config.address_request, &call.args).await;
    if let Err(NotLeased::Pool(_)) = leased {
        // The source may list more by now.
        agent.source.hurry();
    }
    let Leased { addresses, new_subnets } = leased?;
    if !new_subnets.is_empty() {
        let has_v6 = new_subnets.iter().any(|subnet| subnet.prefix.addr().is_ipv6());
        publish_new_subnets(agent, has_v6).await;
    }
    Ok(addresses)
}

/// azure-cns gave an address of a subnet that was not known. A failure is logged: the lease stands, and routes are
/// published again with the next change.
async fn publish_new_subnets(agent: &Agent, has_v6: bool) {
    agent.source.store_pool(&agent.config, &agent.uplink, &agent.pool(), unix_secs());
    if let Err(error) = publish_routes(agent).await {
        tracing::error!(%error, "publishing routes after azure-cns gave an address of another subnet");
    }
    if let (true, Err(error)) = (has_v6, set_platform_gateway(agent).await) {
        tracing::error!(%error, "making the platform's gateway a neighbour");
    }
}
