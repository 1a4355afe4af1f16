//! azure-cns as this agent uses it: claims, requests, releases, and how it does.

use std::net::IpAddr;
use std::sync::Arc;

use azure_cni_api::AddressRequest;
use azure_cni_api::cni::{AttachmentId, CniArgs};
use azure_cni_ipam::cns::{Assigned, Claim};
use azure_cni_ipam::{Addresses, Pool};
use tokio::sync::Notify;

use super::claims::Claims;
use super::client::CnsClient;
use super::error::CnsError;
use crate::config::AgentConfig;
use crate::source::WatchedSource;
use crate::wall_clock::unix_secs;

#[derive(Debug)]
pub struct Cns {
    client: CnsClient,
    claims: Claims,
    /// Where operators see how the server does.
    source: Arc<WatchedSource>,
    uplink: String,
    /// A release may be pending.
    pending: Notify,
}

impl Cns {
    /// `uplink`: the name of the interface whose primary address source NAT uses.
    pub fn new(config: &AgentConfig, source: Arc<WatchedSource>, uplink: String) -> Self {
        let claims = Claims::in_dir(config.state_dir.join("cns"));
        Self { client: CnsClient::new(&config.pool), claims, source, uplink, pending: Notify::new() }
    }

    /// Has azure-cns assign addresses to an attachment that has none. The caller holds the attachment's lock. Whatever
    /// fails after the server was asked leaves a release pending.
    pub async fn assign(
        &self,
        id: &AttachmentId,
        request: &AddressRequest,
        args: &CniArgs,
    ) -> Result<Assigned, CnsError> {
        if request.public {
            return Err(CnsError::Public);
        }
        let claim = Claim {
            id: id.clone(),
            pod_name: args.pod_name().unwrap_or_default().to_owned(),
            pod_namespace: args.pod_namespace().unwrap_or_default().to_owned(),
        };
        self.claims.put(&claim).await?;
        let assigned = self.ask(&claim, request).await;
        if assigned.is_err() {
            self.release_pending();
        }
        assigned
    }

    async fn ask(&self, claim: &Claim, request: &AddressRequest) -> Result<Assigned, CnsError> {
        let assigned = self.client.request(claim, &request.addresses).await;
        match &assigned {
            Ok(_) => self.source.health().succeeded(unix_secs()),
            Err(error) => self.failed(error),
        }
        let assigned = assigned?;
        ensure_requested(assigned.addresses, request)?;
        Ok(assigned)
    }

    /// Compares the node's address, as the server sees it, with the one that source NAT uses.
    pub fn compare_primary(&self, host_primary: Option<IpAddr>, pool: &Pool) {
        let primaries = pool.primaries();
        let Some(host) = host_primary.filter(|host| primaries.same_family(*host) != Some(*host)) else {
            return self.source.health().applied();
        };
        let why = format!(
            "azure-cns takes {host} for the primary address of uplink {}, and source NAT uses {}",
            self.uplink, pool.primary
        );
        if self.source.health().cannot_apply(why.clone()) {
            tracing::error!("{why}");
        }
    }

    /// All claims, also those of attachments that hold addresses.
    pub async fn claims(&self) -> Result<Vec<Claim>, CnsError> {
        self.claims.all().await
    }

    /// Ends a claim. `deliver`: the server is to take the addresses back, as no other attachment has them.
    pub async fn release(&self, claim: &Claim, deliver: bool) -> Result<(), CnsError> {
        if deliver {
            self.client.release(claim).await?;
            self.source.health().succeeded(unix_secs());
            tracing::info!(attachment = %claim.id, "released at azure-cns");
        }
        self.claims.remove(&claim.id).await
    }

    /// An exchange with the server has failed.
    pub fn failed(&self, error: &CnsError) {
        self.source.health().failed(error.to_string());
    }

    /// A lease has ended: the background delivers its release.
    pub fn release_pending(&self) {
        self.pending.notify_one();
    }

    /// Waits until a release may be pending.
    pub async fn wait_for_release(&self) {
        self.pending.notified().await;
    }
}

/// A pod that asked for addresses gets those and no others.
pub fn ensure_requested(addresses: Addresses, request: &AddressRequest) -> Result<(), CnsError> {
    if request.addresses.iter().all(|wanted| addresses.same_family(*wanted) == Some(*wanted)) {
        return Ok(());
    }
    Err(CnsError::Other { requested: joined(&request.addresses), given: joined(&addresses.iter().collect::<Vec<_>>()) })
}

fn joined(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
