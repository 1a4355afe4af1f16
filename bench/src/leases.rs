//! What a lease and its release cost, by the size of the pool: flat, if the book is right. No traffic, no kernel.

use std::{
    hint::black_box,
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use azure_cni_agent::{
    cni::AttachmentId,
    ipam::{Leases, Wish},
};
use serde::Serialize;

use crate::{plan::Plan, statistics::Summary};

/// Addresses: a small node's, a large node's, and all that the pods of a virtual network may have.
const SIZES: [u32; 3] = [100, 1_000, 16_000];
/// Lease and release, of one round.
const TIMES: u32 = 20_000;
const COOLDOWN: Duration = Duration::from_secs(30);

/// What was found for one size.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LeaseCost {
    pub(crate) addresses: u32,
    /// Nanoseconds of a lease and its release, one for each round.
    pub(crate) samples: Vec<f64>,
    pub(crate) summary: Summary,
}

pub(crate) fn measure(plan: &Plan) -> Result<Vec<LeaseCost>> {
    if !plan.leases {
        return Ok(Vec::new());
    }
    let mut costs = Vec::new();
    for addresses in SIZES {
        let samples = (0..plan.rounds).map(|_| round(addresses)).collect::<Result<Vec<_>>>()?;
        costs.push(LeaseCost { addresses, summary: Summary::of(&samples), samples });
    }
    Ok(costs)
}

/// Half of the pool is held all the time; the other half goes round.
fn round(addresses: u32) -> Result<f64> {
    let mut leases = Leases::new(COOLDOWN, false);
    let first = u32::from(Ipv4Addr::new(10, 0, 0, 4));
    leases.set_pool((0..addresses).map(|number| IpAddr::V4(Ipv4Addr::from(first + number))));
    let wish = Wish::default();
    for number in 0..addresses / 2 {
        leases.lease(&id(number)?, &wish, Duration::ZERO)?;
    }
    let ids = (0..TIMES).map(|number| id(addresses + number)).collect::<Result<Vec<_>>>()?;
    let mut now = COOLDOWN;
    let began = Instant::now();
    for id in &ids {
        now += COOLDOWN;
        black_box(leases.lease(id, &wish, now)?);
        black_box(leases.release(id, now));
    }
    Ok(began.elapsed().as_nanos() as f64 / f64::from(TIMES))
}

/// As long as those of runtimes are.
fn id(number: u32) -> Result<AttachmentId> {
    let container = format!("{number:064x}");
    Ok(AttachmentId {
        network: "azure".parse().context("a network's name")?,
        container_id: container.parse().context("a container's id")?,
        ifname: "eth0".parse().context("an interface's name")?,
    })
}
