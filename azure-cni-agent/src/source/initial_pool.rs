//! The pool that an agent starts with.
//!
//! The programs are loaded with the NIC's primary address, so the agent must know it before it serves: from the source, or
//! from the pool that an earlier agent stored. With azure-cns it is the uplink's own address.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, anyhow};
use azure_cni_ipam::{Addresses, Pool};

use super::candidates::{Candidates, NoPool};
use super::confirmed_pool::ConfirmedPool;
use super::health::Health;
use super::origin::{Kind, Origin};
use super::platform;
use super::watched::WatchedSource;
use crate::config::{AgentConfig, PoolConfig, PoolSource};
use crate::net::{Link, NetError, Netlink};
use crate::node;
use crate::wall_clock::unix_secs;

/// With a stored pool, the start waits for the source for this long and then goes on without it.
const SOURCE_TIMEOUT: Duration = Duration::from_secs(3);

/// The pool of the start, and its source.
#[derive(Debug)]
pub struct InitialPool {
    pub pool: Pool,
    pub source: WatchedSource,
}

/// Waits until a server lists the pool, unless an earlier agent stored one. A file is read once, so that an operator who configures a
/// missing or malformed file sees the error at once.
pub async fn initial_pool(config: &AgentConfig, netlink: &Netlink, uplink: &Link) -> anyhow::Result<InitialPool> {
    let on_platform = config.pool.source == PoolSource::Auto && platform::is_here();
    if on_platform && config.pool.file.exists() {
        let file = config.pool.file.display();
        tracing::warn!(%file, "this is a VM of the platform, so the file is not read; pool.source = \"file\" would");
    }
    let mut candidates = Candidates::of(&config.pool, on_platform);
    let stored = ConfirmedPool::read(&config.state_dir, &candidates.origins(&config.pool), uplink.mac);
    if config.pool.source == PoolSource::Cns {
        let pool = pool_of_uplink(netlink, uplink, stored).await?;
        let origin = Origin::of(&config.pool, Kind::Cns);
        return Ok(InitialPool { pool, source: WatchedSource::new(origin, Health::default()) });
    }
    let Some(stored) = stored else { return first_pool(config, &candidates, uplink).await };
    candidates.prefer(stored.origin.kind);
    let error = match tokio::time::timeout(SOURCE_TIMEOUT, candidates.ask(&config.pool, uplink)).await {
        Ok(Ok((kind, pool))) => return Ok(confirmed(config, kind, uplink, pool)),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("address pool from {}: no response within {} s", stored.origin, SOURCE_TIMEOUT.as_secs()),
    };
    if let Err(problem) = node::check_primary(netlink, uplink, stored.pool.primary.into()).await {
        tracing::warn!(%error, %problem, "cannot use the stored pool");
        return first_pool(config, &candidates, uplink).await;
    }
    tracing::warn!(%error, "starting with the stored pool");
    let mut health = Health::confirmed_at(stored.confirmed_unix_secs);
    health.failed(error);
    Ok(InitialPool { pool: stored.pool, source: WatchedSource::new(stored.origin, health) })
}

async fn first_pool(config: &AgentConfig, candidates: &Candidates, uplink: &Link) -> anyhow::Result<InitialPool> {
    loop {
        match candidates.ask(&config.pool, uplink).await {
            Ok((kind, pool)) => return Ok(confirmed(config, kind, uplink, pool)),
            Err(error) if candidates.has_file() => return Err(nowhere(config, error)),
            Err(error) => wait_to_retry(&config.pool, error).await,
        }
    }
}

/// What ends a start.
fn nowhere(config: &AgentConfig, error: NoPool) -> anyhow::Error {
    match config.pool.source {
        PoolSource::Auto => anyhow!(
            "{error}. On a VM of the platform, find out why neither service answers it, or set pool.source to the one to wait for; \
             elsewhere, list the pool in {}",
            config.pool.file.display()
        ),
        _ => error.into(),
    }
}

async fn wait_to_retry(config: &PoolConfig, error: NoPool) {
    let retry_secs = config.refresh_min_secs;
    tracing::error!(%error, retry_secs, "no address pool yet; the agent serves no pod before it has one");
    tokio::time::sleep(Duration::from_secs(retry_secs)).await;
}

/// A pool that the source has just listed. Stores it for the next start.
fn confirmed(config: &AgentConfig, kind: Kind, uplink: &Link, pool: Pool) -> InitialPool {
    let now = unix_secs();
    let mut health = Health::default();
    health.succeeded(now);
    let source = WatchedSource::new(Origin::of(&config.pool, kind), health);
    source.store_pool(config, uplink, &pool, now);
    InitialPool { pool, source }
}

/// A pool without addresses to lease. Its subnets are those that azure-cns has given addresses of.
async fn pool_of_uplink(netlink: &Netlink, uplink: &Link, stored: Option<ConfirmedPool>) -> anyhow::Result<Pool> {
    let own = primaries_of(netlink, uplink).await.context("reading the uplink's addresses")?;
    let primaries =
        own.ok_or_else(|| anyhow!("uplink {} has no IPv4 address, and pods are translated to it", uplink.name))?;
    let subnets = stored.map(|stored| stored.pool.subnets).unwrap_or_default();
    let (withheld, public, oddities) = Default::default();
    Ok(Pool { primary: primaries.v4, primary6: primaries.v6, subnets, withheld, public, oddities })
}

/// The uplink's own first address of each family; `None` without an IPv4 address.
pub async fn primaries_of(netlink: &Netlink, uplink: &Link) -> Result<Option<Addresses>, NetError> {
    let own = netlink.addresses(Some(uplink.index)).await?;
    let routed = own.iter().map(|net| net.addr()).filter(|address| match address {
        IpAddr::V4(_) => true,
        IpAddr::V6(address) => !address.is_unicast_link_local(),
    });
    Ok(Addresses::first_of_each(routed))
}
