//! What a lease and its release cost, by the size of the pool: flat, if the pool's data structures are right. No traffic, no kernel.

use std::{
    hint::black_box,
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use crate::{
    calibration,
    collect::Collector,
    plan::Plan,
    record::{At, Axis},
    statistics::Summary,
    subject::Topic,
};
use anyhow::{Context, Result};
use azure_cni_api::{AddressRequest, cni::AttachmentId};
use azure_cni_ipam::Leases;

/// Addresses: a small node's, a large node's, and all that the pods of a virtual network may have.
const SIZES: [u32; 3] = [100, 1_000, 16_000];
/// Lease and release, of one round, and in how many pieces. The calibration runs between them.
const TIMES: u32 = 20_000;
const PIECES: usize = 20;
const COOLDOWN: Duration = Duration::from_secs(30);

pub(crate) fn measure(plan: &Plan, collector: &mut Collector) -> Result<()> {
    if !plan.has(Topic::Leases) {
        return Ok(());
    }
    for _ in 0..plan.short_rounds() {
        for value in SIZES {
            let at = At { axis: Axis::PoolAddresses, value };
            let title = "A lease and its release";
            let (took, calibration) = round(value)?;
            collector.calibrated_time("leases/lease", title, Some(at), took, calibration);
        }
    }
    Ok(())
}

/// Half of the pool is held all the time; the other half goes round. Nanoseconds of each lease, and of the calibration.
fn round(addresses: u32) -> Result<(f64, f64)> {
    let mut leases = Leases::new(COOLDOWN, false);
    let first = u32::from(Ipv4Addr::new(10, 0, 0, 4));
    leases.set_pool((0..addresses).map(|number| IpAddr::V4(Ipv4Addr::from(first + number))));
    let request = AddressRequest::default();
    for number in 0..addresses / 2 {
        leases.lease(&id(number)?, &request, Duration::ZERO)?;
    }
    let ids = (0..TIMES).map(|number| id(addresses + number)).collect::<Result<Vec<_>>>()?;
    let mut now = COOLDOWN;
    let (mut took, mut calibration) = (Vec::new(), Vec::new());
    for piece in ids.chunks(ids.len() / PIECES) {
        let began = Instant::now();
        for id in piece {
            now += COOLDOWN;
            black_box(leases.lease(id, &request, now)?);
            black_box(leases.release(id, now));
        }
        took.push(began.elapsed().as_nanos() as f64 / piece.len() as f64);
        calibration.push(calibration::once());
    }
    Ok((Summary::of(&took).median, Summary::of(&calibration).median))
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
