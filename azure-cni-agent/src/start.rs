//! From a configuration to a running agent: check the node, load the data path, take over what an earlier agent left.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use anyhow::{Context, bail};
use azure_cni_api::boot_time;
use azure_cni_common::conntrack::Timeouts;
use azure_cni_datapath::{AttachModes, Constants, Datapath, Hook, Settings};
use azure_cni_ipam::Pool;
use sha2::{Digest, Sha256};

use crate::agent::Agent;
use crate::attachment_locks::AttachmentLocks;
use crate::background::{drain_spool, sync_endpoints, sync_host_ports};
use crate::config::check::check_port_range;
use crate::config::sizes::TableSizes;
use crate::config::{AgentConfig, AttachMode as ConfiguredMode, PoolSource};
use crate::leases::AddressLeases;
use crate::leases::cns::Cns;
use crate::net::{Link, Netlink};
use crate::node::{self, NodeError};
use crate::programs::{self, ForeignFilters, Interface};
use crate::reconcile;
use crate::routing::Routing;
use crate::source::{self, InitialPool};
use crate::state::{SetAside, Store};
use crate::steps::{Faults, LatencyHistograms};
use crate::verbs;

/// Fails with what is missing and how to repair it. Changes nothing on the node before all checks have passed.
pub async fn start(config: AgentConfig) -> anyhow::Result<Arc<Agent>> {
    if !nix::unistd::geteuid().is_root() {
        bail!("the agent makes interfaces and loads eBPF programs: run it as root");
    }
    let boot_id = boot_time::boot_id().context("reading the boot id")?;
    let netlink = Netlink::here()?;
    let uplink = node::find_uplink(&netlink, config.uplink.as_ref().map(|name| name.as_str())).await?;
    let InitialPool { pool, source } = source::initial_pool(&config, &netlink, &uplink).await?;
    check_node(&config, &netlink, &uplink, &pool).await?;
    let routing = Routing::at_start(config.routing.clone()).context("routing.masq_dir")?;
    let node_addresses: BTreeSet<_> = node::own_addresses(&netlink).await?.into_iter().collect();

    let store = Store::open(&config.state_dir, &boot_id)?;
    let store_problem = report_set_aside(store.set_aside());
    let sizes = config.datapath.table_sizes(node::memory_bytes().context("reading the machine's memory")?);
    let datapath = Datapath::open(&settings(&config, sizes, &uplink, &pool, &boot_id))?;
    let source = Arc::new(source);
    let cns = || Cns::new(&config, source.clone(), uplink.name.clone());
    let cns = (config.pool.source == PoolSource::Cns).then(cns);
    let agent = Arc::new(Agent {
        leases: AddressLeases::new(&config.pool, pool, node_addresses.clone(), cns),
        source,
        config,
        uplink,
        netlink,
        datapath,
        locks: AttachmentLocks::default(),
        faults: Faults::from_environment(),
        boot_id,
        store: Arc::new(store),
        node_addresses: Mutex::new(node_addresses),
        routing: Mutex::new(routing),
        via_host: Mutex::default(),
        publishing: tokio::sync::Mutex::default(),
        host_ports: Mutex::default(),
        refusals: Mutex::default(),
        repairs: Mutex::default(),
        foreign_filters: ForeignFilters::default(),
        store_problem,
        chain_problems: Mutex::default(),
        latency: LatencyHistograms::default(),
        ignored: Mutex::default(),
    });

    source::report_left_out(&agent.pool(), &agent.leases.withheld());
    agent.sync_public_addresses();
    sync_host_ports(&agent).await?;
    agent.restore_released();
    reconcile::at_start(&agent).await?;
    sync_endpoints(&agent).await?;
    verbs::publish_routes(&agent).await?;
    verbs::set_platform_gateway(&agent).await?;
    for hook in Hook::UPLINK {
        let interface = Interface { name: &agent.uplink.name, index: agent.uplink.index };
        programs::take_over(&agent.netlink, &agent.datapath, hook, interface).await?;
    }
    // The spool is read again later, and nothing that runs depends on it.
    match drain_spool(&agent).await {
        Ok(0) => {}
        Ok(waiting) => tracing::warn!(waiting, "requests in the spool failed"),
        Err(error) => tracing::error!(%error, "the spool cannot be read"),
    }
    let (pool, endpoints) = (agent.pool(), agent.records().len());
    tracing::info!(
        uplink = agent.uplink.name,
        source = %agent.source.origin,
        primary = %pool.primary,
        primary6 = pool.primary6.map(tracing::field::display),
        addresses = agent.leases.counts().v4.total,
        addresses6 = agent.leases.counts().v6.map(|counts| counts.total),
        endpoints,
        uplink_by = agent.datapath.modes().uplink.name(),
        pods_by = agent.datapath.modes().endpoints.name(),
        "ready"
    );
    Ok(agent)
}

/// Logs every problem, and returns a sentence that `status` shows until the next start.
fn report_set_aside(damaged: &[SetAside]) -> Option<String> {
    for SetAside { kept_as, problem } in damaged {
        tracing::error!(problem, kept_as = %kept_as.display(), "a file of the store was damaged");
    }
    let first = damaged.first()?;
    Some(format!(
        "the store was damaged, {} of its files: {}. It is kept as {}. What attachments had is recorded again from the \
         kernel; the log names every file",
        damaged.len(),
        first.problem,
        first.kept_as.display()
    ))
}

async fn check_node(config: &AgentConfig, netlink: &Netlink, uplink: &Link, pool: &Pool) -> anyhow::Result<()> {
    check_port_range(config.snat.port_range, config.snat.node_ports, node::ephemeral_ports()?)?;
    let dual_stack = pool.is_dual_stack();
    for primary in pool.primaries().iter().filter(|primary| primary.is_ipv4() || dual_stack) {
        node::check_primary(netlink, uplink, primary).await?;
    }
    let mut problems = node::problems(netlink, uplink, dual_stack).await?;
    if dual_stack {
        problems.extend(node::ipv6_mtu_problem(config.datapath.mtu.unwrap_or(uplink.mtu)));
    }
    if config.snat.ipv6 && pool.primary6.is_none() {
        problems.push("snat.ipv6 is set and the pool lists no primary IPv6 address to translate to".to_owned());
    }
    if problems.is_empty() { Ok(()) } else { Err(NodeError::NotReady { problems }.into()) }
}

fn settings(config: &AgentConfig, sizes: TableSizes, uplink: &Link, pool: &Pool, boot_id: &str) -> Settings {
    let ports = config.snat.port_range;
    Settings {
        object: azure_cni_datapath::OBJECT,
        dir: config.bpffs_dir.clone(),
        constants: Constants {
            node_address: pool.primary,
            node_address6: pool.primary6,
            snat6: config.snat.ipv6,
            uplink_ifindex: uplink.index,
            uplink_mtu: uplink.mtu,
            nat_ports: azure_cni_common::nat::PortRange { first: ports.first(), last: ports.last() },
            nat_seed: seed_of(boot_id),
            timeouts: Timeouts::from(&config.timeouts),
            block_imds: config.routing.block_imds,
            services_known: config.routing.service_prefixes.is_some(),
            log: config.datapath.log,
        },
        max_flows: sizes.max_flows,
        max_half_open: sizes.max_half_open,
        attach: match config.datapath.attach {
            ConfiguredMode::Auto => AttachModes::detect(),
            ConfiguredMode::Tcx => AttachModes::TCX,
            ConfiguredMode::Clsact => AttachModes::CLSACT,
        },
    }
}

/// Hard to guess for other machines: they do not know the boot id.
fn seed_of(boot_id: &str) -> u32 {
    let digest = Sha256::digest(boot_id);
    u32::from_ne_bytes([digest[0], digest[1], digest[2], digest[3]])
}
