//! From a configuration to a running agent: check the node, load the data path, take over what an earlier agent left.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use anyhow::{Context, bail};
use azure_cni_api::boot_time;
use azure_cni_common::lifetime::Timeouts;
use azure_cni_common::nat::share::blocks_of;
use azure_cni_datapath::{AttachModes, Constants, Datapath, DatapathError, Hook, Settings};
use azure_cni_ipam::Pool;
use sha2::{Digest, Sha256};

use crate::agent::Agent;
use crate::attachment_locks::AttachmentLocks;
use crate::background::{drain_spool, read_services, sync_endpoints, sync_host_ports, withhold_services};
use crate::config::sizes::TableSizes;
use crate::config::{AgentConfig, AttachMode as ConfiguredMode, PoolSource};
use crate::freed_memory;
use crate::leases::AddressLeases;
use crate::leases::cns::Cns;
use crate::net::{Link, Netlink};
use crate::node;
use crate::node_watch::NodeWatch;
use crate::programs::{self, ForeignFilters, Interface};
use crate::reconcile;
use crate::rehearsal;
use crate::rights;
use crate::routing::Routing;
use crate::source::{self, InitialPool};
use crate::state::{AttachmentRecord, SetAside, Store};
use crate::steps::{Faults, LatencyHistograms};
use crate::verbs;

/// Fails with what is missing and how to repair it. Changes nothing on the node before all checks have passed.
pub async fn start(config: AgentConfig) -> anyhow::Result<Arc<Agent>> {
    if !nix::unistd::geteuid().is_root() {
        bail!("the agent makes interfaces and loads eBPF programs: run it as root");
    }
    let missing = rights::missing().context("reading the agent's capabilities")?;
    if !missing.is_empty() {
        bail!(
            "the agent lacks {}, with which it makes interfaces, enters pods' namespaces and loads eBPF programs: give it these \
             capabilities, as by `privileged` of its container",
            missing.join(" and ")
        );
    }
    let boot_id = boot_time::boot_id().context("reading the boot id")?;
    let netlink = Netlink::here()?;
    let uplink = node::find_uplink(&netlink, config.uplink.as_ref().map(|name| name.as_str())).await?;
    let InitialPool { pool, source } = source::initial_pool(&config, &netlink, &uplink).await?;
    node::check(&config, &netlink, &uplink, &pool).await?;
    let routing = Routing::at_start(config.routing.clone()).context("routing.masq_dir")?;
    let node_addresses: BTreeSet<_> = node::own_addresses(&netlink).await?.into_iter().collect();

    let services = read_services().await;
    let store = Store::open(&config.state_dir, &boot_id)?;
    let store_problem = report_set_aside(store.set_aside());
    let sizes = config.datapath.table_sizes(node::memory_bytes().context("reading the machine's memory")?);
    let has_ipv6 = may_have_ipv6(&config, &pool, &store.all());
    let datapath = Datapath::open(&settings(&config, sizes, &uplink, &pool, has_ipv6, &boot_id)?)?;
    rehearsal::attach_a_pod(&datapath).context("trying what each pod's start needs of the kernel")?;
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
        services: Mutex::new(services),
        rules_torn_since: Mutex::default(),
        hindrances: Mutex::default(),
        elsewhere: Mutex::default(),
        via_host: Mutex::default(),
        all_by_host: Mutex::default(),
        publishing: tokio::sync::Mutex::default(),
        host_ports: Mutex::default(),
        refusals: Mutex::default(),
        repairs: Mutex::default(),
        foreign_filters: ForeignFilters::default(),
        node_watch: NodeWatch::default(),
        pod_macs: Mutex::default(),
        refused_network: Mutex::default(),
        store_problem,
        chain_problems: Mutex::default(),
        latency: LatencyHistograms::default(),
        ignored: Mutex::default(),
    });

    withhold_services(&agent);
    source::report_left_out(&agent.pool(), &agent.leases.withheld());
    agent.sync_public_addresses();
    sync_host_ports(&agent).await?;
    agent.restore_released();
    settle(&agent).await?;
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
    freed_memory::give_back();
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

/// Whether a pod has an IPv6 address, or may get one. What azure-cns will give is not known before it has given some.
fn may_have_ipv6(config: &AgentConfig, pool: &Pool, records: &[AttachmentRecord]) -> bool {
    let is_open = config.pool.source == PoolSource::Cns
        && (pool.subnets.is_empty() || pool.subnets.iter().any(|subnet| subnet.prefix.addr().is_ipv6()));
    is_open || pool.is_dual_stack() || records.iter().flat_map(|record| &record.addresses).any(IpAddr::is_ipv6)
}

/// Where maps have got another size, programs of the agent before write to the old ones until they are swapped. So all are
/// swapped before anything else is done, and what is in the old maps is carried over.
async fn settle(agent: &Agent) -> anyhow::Result<()> {
    if !agent.datapath.is_unsettled() {
        return Ok(());
    }
    let swap = async |hook, interface| programs::take_over(&agent.netlink, &agent.datapath, hook, interface).await;
    for hook in Hook::UPLINK {
        swap(hook, Interface { name: &agent.uplink.name, index: agent.uplink.index }).await?;
    }
    let links = agent.netlink.links().await?;
    for record in agent.records() {
        let of_record = |link: &&Link| link.name == record.host_interface && link.index == record.host_ifindex;
        let Some(link) = links.iter().find(of_record) else { continue };
        for hook in Hook::ENDPOINT {
            // The reconciler tries again.
            if let Err(error) = swap(hook, Interface { name: &link.name, index: link.index }).await {
                tracing::error!(%error, "taking over a pod");
            }
        }
    }
    Ok(agent.datapath.settle()?)
}

fn settings(
    config: &AgentConfig,
    sizes: TableSizes,
    uplink: &Link,
    pool: &Pool,
    has_ipv6: bool,
    boot_id: &str,
) -> Result<Settings, DatapathError> {
    let ports = config.snat.port_range;
    Ok(Settings {
        object: azure_cni_datapath::OBJECT,
        dir: config.bpffs_dir.clone(),
        constants: Constants {
            node_address: pool.primary,
            node_address6: pool.primary6,
            has_ipv6,
            snat6: config.snat.ipv6,
            uplink_ifindex: uplink.index,
            uplink_mtu: uplink.mtu,
            nat_ports: azure_cni_common::nat::PortRange { first: ports.first(), last: ports.last() },
            nat_pod_blocks: blocks_of(config.snat.pod_port_share.into()),
            pod_flow_share: sizes.pod_flow_share,
            nat_seed: seed_of(boot_id),
            timeouts: Timeouts::from(&config.timeouts),
            block_imds: config.routing.block_imds,
            services_known: config.routing.service_prefixes.is_some(),
            log: config.datapath.log,
        },
        max_flows: sizes.max_flows,
        max_half_open: sizes.max_half_open,
        max_routes: config.datapath.max_routes,
        attach: match config.datapath.attach {
            ConfiguredMode::Auto => AttachModes::detect()?,
            ConfiguredMode::Tcx => AttachModes::TCX,
            ConfiguredMode::Clsact => AttachModes::CLSACT,
        },
    })
}

/// Hard to guess for other machines: they do not know the boot id.
fn seed_of(boot_id: &str) -> u32 {
    let digest = Sha256::digest(boot_id);
    u32::from_ne_bytes([digest[0], digest[1], digest[2], digest[3]])
}
