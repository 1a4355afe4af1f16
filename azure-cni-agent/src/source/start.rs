//! The pool that an agent starts with.
//!
//! The programs are loaded with the NIC's primary address, so nothing can be served before that is known: by the source,
//! or by what an earlier agent kept of it. Of azure-cns it is the uplink's own address.

use std::time::Duration;

use anyhow::{Context, anyhow};
use azure_cni_ipam::{Addresses, Pool};

use super::known::Known;
use super::{Followed, Health, Origin, SourceError, ask};
use crate::config::{AgentConfig, PoolConfig, PoolSource};
use crate::net::{Link, Netlink};
use crate::node;

/// Where something is known already, the source gets this long before the start goes on without it.
const PATIENCE: Duration = Duration::from_secs(3);

/// What an agent starts with.
#[derive(Debug)]
pub struct Found {
    pub pool: Pool,
    pub source: Followed,
}

/// Waits for as long as it takes where the source is a server and nothing is known. A file is asked once: whoever names a
/// file that is not there, or not right, is to learn it at once.
pub async fn at_start(config: &AgentConfig, netlink: &Netlink, uplink: &Link) -> anyhow::Result<Found> {
    let origin = Origin::of(&config.pool);
    let known = Known::read(&config.state_dir, &origin, uplink.mac);
    if config.pool.source == PoolSource::Cns {
        let pool = of_uplink(netlink, uplink, known).await?;
        return Ok(Found { pool, source: Followed::new(origin, Health::default()) });
    }
    let Some(known) = known else { return first(config, uplink).await };
    let error = match tokio::time::timeout(PATIENCE, ask(&config.pool, uplink)).await {
        Ok(Ok(pool)) => return Ok(confirmed(config, uplink, pool)),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("address pool from {origin}: no answer within {} s", PATIENCE.as_secs()),
    };
    if let Err(problem) = node::check_primary(netlink, uplink, known.pool.primary.into()).await {
        tracing::warn!(%error, %problem, "what is known of the pool cannot be used");
        return first(config, uplink).await;
    }
    tracing::warn!(%error, "starting with the pool as last known");
    let mut health = Health::confirmed_at(known.confirmed_unix_secs);
    health.failed(error);
    Ok(Found { pool: known.pool, source: Followed::new(origin, health) })
}

async fn first(config: &AgentConfig, uplink: &Link) -> anyhow::Result<Found> {
    loop {
        match ask(&config.pool, uplink).await {
            Ok(pool) => return Ok(confirmed(config, uplink, pool)),
            Err(error) if config.pool.source == PoolSource::File => return Err(error.into()),
            Err(error) => wait(&config.pool, error).await,
        }
    }
}

async fn wait(config: &PoolConfig, error: SourceError) {
    let retry_secs = config.refresh_min_secs;
    tracing::error!(%error, retry_secs, "no address pool is known yet; no pod is served before one is");
    tokio::time::sleep(Duration::from_secs(retry_secs)).await;
}

/// A pool that the source has just given, kept for the next start.
fn confirmed(config: &AgentConfig, uplink: &Link, pool: Pool) -> Found {
    let now = super::unix_secs();
    let mut health = Health::default();
    health.succeeded(now);
    let source = Followed::new(Origin::of(&config.pool), health);
    source.keep(config, uplink, &pool, now);
    Found { pool, source }
}

/// Nothing of its own to hand out; the subnets are those that azure-cns was seen to give addresses of.
async fn of_uplink(netlink: &Netlink, uplink: &Link, known: Option<Known>) -> anyhow::Result<Pool> {
    let own = netlink.addresses(Some(uplink.index)).await.context("asking for the uplink's addresses")?;
    let routed = own.iter().map(|net| net.addr()).filter(|address| match address {
        std::net::IpAddr::V4(_) => true,
        std::net::IpAddr::V6(address) => !address.is_unicast_link_local(),
    });
    let primaries = Addresses::first_of_each(routed)
        .ok_or_else(|| anyhow!("uplink {} has no IPv4 address, and pods are translated to it", uplink.name))?;
    let subnets = known.map(|known| known.pool.subnets).unwrap_or_default();
    let (withheld, public) = Default::default();
    Ok(Pool { primary: primaries.v4, primary6: primaries.v6, subnets, withheld, public })
}
