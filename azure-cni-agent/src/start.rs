//! From a configuration to a running agent: look at the node, load the data path, take over what an earlier agent left.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Instant;

use anyhow::{Context, bail};
use azure_cni_common::conntrack::Timeouts;
use sha2::{Digest, Sha256};

use crate::agent::Agent;
use crate::commands::Faults;
use crate::config::{self, AgentConfig, AttachMode as AskedMode, PoolSource, TableSizes};
use crate::datapath::{AttachMode, Constants, Datapath, Hook, Settings};
use crate::endpoint::{GATEWAY6, PLATFORM_GATEWAY_MAC};
use crate::host_ports::follow_host_ports;
use crate::ipam::{Addresses, Leases, MacAddress, Pool, wireserver};
use crate::moment;
use crate::net::{Link, NeighbourEntry, Netlink};
use crate::node::{self, NodeError};
use crate::routing::Routing;
use crate::spool;
use crate::state::{AttachmentRecord, Store};
use crate::times::StepTimes;
use crate::turns::Turns;

impl Agent {
    /// Fails with what is missing and how to mend it. Changes nothing on the node before all checks have passed.
    pub async fn start(config: AgentConfig) -> anyhow::Result<Arc<Agent>> {
        if !nix::unistd::geteuid().is_root() {
            bail!("the agent makes interfaces and loads eBPF programs: run it as root");
        }
        let boot_id = moment::boot_id().context("reading the boot id")?;
        let netlink = Netlink::here()?;
        let uplink = node::find_uplink(&netlink, config.uplink.as_ref().map(|name| name.as_str())).await?;
        let pool = read_pool(&config, &uplink)?;
        check_node(&config, &netlink, &uplink, &pool).await?;
        let routing = Routing::at_start(config.routing.clone()).context("routing.masq_dir")?;
        let node_addresses: BTreeSet<_> = node::own_addresses(&netlink).await?.into_iter().collect();

        let store = Store::open(&config.state_dir)?;
        let sizes = config.datapath.table_sizes(node::memory_bytes().context("asking for the machine's memory")?);
        let datapath = Datapath::open(&settings(&config, sizes, &uplink, &pool, &boot_id))?;
        let mut leases = Leases::new(config.pool.cooldown(), config.pool.reuse_cooling);
        leases.set_pool(pool.addresses());
        let agent = Arc::new(Agent {
            config,
            uplink,
            pool: RwLock::new(Arc::new(pool)),
            netlink,
            datapath,
            turns: Turns::default(),
            faults: Faults::from_environment(),
            boot_id,
            store: Arc::new(store),
            leases: Mutex::new(leases),
            node_addresses: Mutex::new(node_addresses),
            routing: Mutex::new(routing),
            publishing: tokio::sync::Mutex::default(),
            host_ports: Mutex::default(),
            refusals: Mutex::default(),
            started: Instant::now(),
            times: StepTimes::default(),
            ignored: Mutex::default(),
        });

        follow_host_ports(&agent).await?;
        agent.take_over().await?;
        agent.settle_gateway().await?;
        for hook in Hook::UPLINK {
            agent.datapath.attach(hook, &agent.uplink.name)?;
        }
        // A spool that cannot be read is looked at again later; nothing that lives depends on it.
        match spool::sweep(&agent).await {
            Ok(0) => {}
            Ok(waiting) => tracing::warn!(waiting, "requests in the spool failed"),
            Err(error) => tracing::error!(%error, "the spool cannot be read"),
        }
        let pool = agent.pool();
        tracing::info!(
            uplink = agent.uplink.name,
            primary = %pool.primary,
            primary6 = pool.primary6.map(tracing::field::display),
            addresses = agent.pool_counts().v4.total,
            addresses6 = agent.pool_counts().v6.map(|counts| counts.total),
            endpoints = agent.records().await?.len(),
            attach = agent.datapath.mode().name(),
            "ready"
        );
        Ok(agent)
    }

    /// Gives what is recorded to the data path again, swaps in the programs of this agent, and forgets what is gone.
    async fn take_over(&self) -> anyhow::Result<()> {
        let mut via_host = BTreeSet::new();
        let mut standing = BTreeSet::new();
        for record in self.records().await? {
            match self.netlink.link(&record.host_interface).await? {
                Some(link) if record.boot_id == self.boot_id => {
                    self.take_over_endpoint(&record, link.index)?;
                    via_host.extend(record.via_host.iter().copied());
                    standing.extend(record.addresses.iter().copied());
                }
                _ => {
                    tracing::warn!(attachment = %record.id, "its interface is gone; releasing its address");
                    self.forget(record).await?;
                }
            }
        }
        for address in self.datapath.tables().endpoint_addresses()? {
            if !standing.contains(&address) {
                tracing::warn!(%address, "in the data path without an attachment; removing it");
                self.datapath.tables().remove_endpoint(address)?;
                self.datapath.tables().scrub(address)?;
            }
        }
        self.publish_routes(&via_host)?;
        Ok(())
    }

    fn take_over_endpoint(&self, record: &AttachmentRecord, ifindex: u32) -> anyhow::Result<()> {
        let addresses = Addresses::first_of_each(record.addresses.iter().copied())
            .with_context(|| format!("the record of {} has no IPv4 address", record.id))?;
        self.restore_lease(&record.id, addresses)?;
        for address in addresses.iter() {
            self.datapath.tables().set_endpoint(address, self.endpoint(address, ifindex, record.keep_source))?;
        }
        for hook in Hook::ENDPOINT {
            self.datapath.attach(hook, &record.host_interface)?;
        }
        Ok(())
    }

    /// The platform's router answers no neighbour solicitation for its address: everybody is to know its MAC.
    async fn settle_gateway(&self) -> anyhow::Result<()> {
        if self.pool().is_dual_stack() {
            let interface = self.uplink.index;
            let gateway = NeighbourEntry { address: GATEWAY6.into(), mac: PLATFORM_GATEWAY_MAC, interface };
            self.netlink.replace_neighbour(gateway).await?;
        }
        Ok(())
    }

    async fn forget(&self, record: AttachmentRecord) -> anyhow::Result<()> {
        for address in &record.addresses {
            self.datapath.tables().remove_endpoint(*address)?;
            self.datapath.tables().scrub(*address)?;
        }
        for hook in Hook::ENDPOINT {
            self.datapath.detach(hook, &record.host_interface)?;
        }
        self.with_store(move |store| store.remove(&record.id)).await?;
        Ok(())
    }
}

fn read_pool(config: &AgentConfig, uplink: &Link) -> anyhow::Result<Pool> {
    let PoolSource::File = config.pool.source;
    let path = &config.pool.file;
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("address pool {}; name the file that lists it in pool.file", path.display()))?;
    let nics = wireserver::parse(&text).with_context(|| format!("address pool {}", path.display()))?;
    let pool = Pool::for_uplink(&nics, MacAddress(uplink.mac))
        .with_context(|| format!("address pool {} for uplink {}", path.display(), uplink.name))?;
    for withheld in &pool.withheld {
        tracing::warn!(address = %withheld.address, reason = %withheld.reason, "listed for pods and never handed out");
    }
    Ok(pool)
}

async fn check_node(config: &AgentConfig, netlink: &Netlink, uplink: &Link, pool: &Pool) -> anyhow::Result<()> {
    config::check_port_range(config.snat.port_range, config.snat.node_ports, node::ephemeral_ports()?)?;
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
        dir: config.bpffs_dir.clone(),
        constants: Constants {
            node_address: pool.primary,
            node_address6: pool.primary6,
            snat6: config.snat.ipv6,
            uplink_ifindex: uplink.index,
            uplink_mtu: uplink.mtu,
            nat_ports: azure_cni_common::snat::PortRange { first: ports.first(), last: ports.last() },
            nat_seed: seed_of(boot_id),
            timeouts: Timeouts::from(&config.timeouts),
            block_imds: config.routing.block_imds,
            services_known: config.routing.service_prefixes.is_some(),
            log: config.datapath.log,
        },
        max_flows: sizes.max_flows,
        max_opening: sizes.max_opening,
        attach: match config.datapath.attach {
            AskedMode::Auto => AttachMode::detect(),
            AskedMode::Tcx => AttachMode::Tcx,
            AskedMode::Clsact => AttachMode::Clsact,
        },
    }
}

/// Nobody outside of the machine knows its boot id.
fn seed_of(boot_id: &str) -> u32 {
    let digest = Sha256::digest(boot_id);
    u32::from_ne_bytes([digest[0], digest[1], digest[2], digest[3]])
}
