//! An attachment's addresses by azure-cns, taken over into the lease book as held outside of a pool.

use std::net::IpAddr;

use azure_cni_api::AddressRequest;
use azure_cni_api::cni::{AttachmentId, CniArgs};
use azure_cni_ipam::cns::{Assigned, AssignedSubnet, Claim};
use azure_cni_ipam::{Addresses, PoolSubnet};

use super::{Cns, CnsError};
use crate::agent::Agent;
use crate::commands::publish_routes;

/// To be called with the attachment's turn. What goes wrong after the server was asked is owed back to it.
pub async fn lease(
    agent: &Agent,
    cns: &Cns,
    id: &AttachmentId,
    address_request: &AddressRequest,
    args: &CniArgs,
) -> Result<Addresses, CnsError> {
    if let Some(held) = agent.lease_of(id) {
        return as_asked(held, address_request);
    }
    if address_request.public {
        return Err(CnsError::Public);
    }
    let claim = Claim {
        id: id.clone(),
        pod_name: args.pod_name().unwrap_or_default().to_owned(),
        pod_namespace: args.pod_namespace().unwrap_or_default().to_owned(),
    };
    cns.claims.put(&claim).await?;
    let leased = ask(agent, cns, &claim, address_request).await;
    if leased.is_err() {
        cns.owe();
    }
    leased
}

async fn ask(agent: &Agent, cns: &Cns, claim: &Claim, address_request: &AddressRequest) -> Result<Addresses, CnsError> {
    let assigned = cns.client.request(claim, &address_request.addresses).await;
    match &assigned {
        Ok(_) => agent.source.health().succeeded(crate::source::unix_secs()),
        Err(error) => drop(agent.source.health().failed(error.to_string())),
    }
    let assigned = assigned?;
    let addresses = assigned.addresses;
    as_asked(addresses, address_request)?;
    agent.restore_lease(&claim.id, addresses)?;
    learn(agent, assigned).await;
    Ok(addresses)
}

/// Nobody is given other addresses than those that were asked for.
fn as_asked(addresses: Addresses, address_request: &AddressRequest) -> Result<Addresses, CnsError> {
    if address_request.addresses.iter().all(|asked| addresses.same_family(*asked) == Some(*asked)) {
        return Ok(addresses);
    }
    Err(CnsError::Other {
        asked: joined(&address_request.addresses),
        given: joined(&addresses.iter().collect::<Vec<_>>()),
    })
}

fn joined(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// What an answer tells beside the addresses: the subnets they are of, and the node's address as the server sees it.
async fn learn(agent: &Agent, assigned: Assigned) {
    let pool = agent.pool();
    match assigned.host_primary.filter(|host| pool.primaries().same_family(*host) != Some(*host)) {
        None => agent.source.health().follows(),
        Some(host) => {
            let why = format!(
                "azure-cns takes {host} for the primary address of uplink {}, and source NAT uses {}",
                agent.uplink.name, pool.primary
            );
            if agent.source.health().cannot_follow(why.clone()) {
                tracing::error!("{why}");
            }
        }
    }
    let new: Vec<_> = assigned.subnets.into_iter().filter(|subnet| !knows(&pool.subnets, subnet)).collect();
    if new.is_empty() {
        return;
    }
    let has_v6 = new.iter().any(|subnet| subnet.prefix.addr().is_ipv6());
    agent.add_subnets(new);
    if let Err(error) = publish_routes(agent).await {
        tracing::error!(%error, "publishing routes after azure-cns gave an address of another subnet");
    }
    if let (true, Err(error)) = (has_v6, agent.settle_gateway().await) {
        tracing::error!(error = format!("{error:#}"), "making the platform's gateway a neighbour");
    }
}

fn knows(known: &[PoolSubnet], subnet: &AssignedSubnet) -> bool {
    known.iter().any(|known| known.prefix == subnet.prefix)
}

impl Agent {
    /// Subnets that azure-cns gives addresses of; kept for the next start too.
    fn add_subnets(&self, subnets: Vec<AssignedSubnet>) {
        let pool = {
            let mut pool = self.pool.write().unwrap_or_else(std::sync::PoisonError::into_inner);
            let mut grown = (**pool).clone();
            for subnet in subnets.into_iter().filter(|subnet| !knows(&pool.subnets, subnet)) {
                tracing::info!(prefix = %subnet.prefix, "azure-cns gives addresses of this subnet");
                grown.subnets.push(PoolSubnet::outside_of_pool(subnet.prefix, subnet.gateway));
            }
            *pool = std::sync::Arc::new(grown.clone());
            grown
        };
        self.source.keep(&self.config, &self.uplink, &pool, crate::source::unix_secs());
    }
}
