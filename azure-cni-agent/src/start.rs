//! From a configuration to a running agent: look at the node, load the data path, take over what an earlier agent left.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use anyhow::{Context, bail};
use azure_cni_common::conntrack::Timeouts;
use azure_cni_common::layout::Endpoint;
use sha2::{Digest, Sha256};

use crate::agent::Agent;
use crate::commands::Faults;
use crate::config::{self, AgentConfig, AttachMode as AskedMode, PoolSource};
use crate::datapath::{AttachMode, Constants, Datapath, Hook, Settings};
use crate::ipam::{LeaseBook, MacAddress, Pool, wireserver};
use crate::net::{Link, Netlink};
use crate::node::{self, NodeError};
use crate::state::{AttachmentRecord, Store};
use crate::turns::Turns;

impl Agent {
    /// Fails with what is missing and how to mend it. Changes nothing on the node before all checks have passed.
    pub async fn start(config: AgentConfig) -> anyhow::Result<Arc<Agent>> {
        if !nix::unistd::geteuid().is_root() {
            bail!("the agent makes interfaces and loads eBPF programs: run it as root");
        }
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").context("reading the boot id")?;
        let netlink = Netlink::here()?;
        let uplink = node::find_uplink(&netlink, config.uplink.as_ref().map(|name| name.as_str())).await?;
        let pool = read_pool(&config, &uplink)?;
        check_node(&config, &netlink, &uplink, &pool).await?;
        let node_addresses: BTreeSet<_> = node::own_addresses(&netlink).await?.into_iter().collect();

        let store = Store::open(&config.state_dir)?;
        let datapath = Datapath::open(&settings(&config, &uplink, &pool, boot_id.trim()))?;
        let mut leases = LeaseBook::new(config.pool.cooldown()).with_reuse_cooling(config.pool.reuse_cooling);
        leases.set_pool(pool.addresses());
        let agent = Arc::new(Agent {
            config,
            uplink,
            pool,
            netlink,
            datapath,
            turns: Turns::default(),
            faults: Faults::from_environment(),
            boot_id: boot_id.trim().to_owned(),
            store: Arc::new(store),
            leases: Mutex::new(leases),
            node_addresses: Mutex::new(node_addresses),
            started: Instant::now(),
        });

        agent.take_over().await?;
        for hook in Hook::UPLINK {
            agent.datapath.attach(hook, &agent.uplink.name)?;
        }
        tracing::info!(
            uplink = agent.uplink.name,
            primary = %agent.pool.primary,
            addresses = agent.pool_counts().total,
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
        for address in &record.addresses {
            if let IpAddr::V4(address) = address {
                self.restore_lease(&record.id, *address)?;
                self.datapath.tables().set_endpoint(IpAddr::V4(*address), Endpoint::at(ifindex))?;
            }
        }
        for hook in Hook::ENDPOINT {
            self.datapath.attach(hook, &record.host_interface)?;
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
    node::check_primary(netlink, uplink, pool.primary).await?;
    let problems = node::problems(netlink, uplink).await?;
    if problems.is_empty() { Ok(()) } else { Err(NodeError::NotReady { problems }.into()) }
}

fn settings(config: &AgentConfig, uplink: &Link, pool: &Pool, boot_id: &str) -> Settings {
    let ports = config.snat.port_range;
    Settings {
        dir: config.bpffs_dir.clone(),
        constants: Constants {
            node_address: pool.primary,
            node_address6: None,
            snat6: false,
            uplink_ifindex: uplink.index,
            uplink_mtu: uplink.mtu,
            nat_ports: azure_cni_common::snat::PortRange { first: ports.first(), last: ports.last() },
            nat_seed: seed_of(boot_id),
            timeouts: Timeouts::DEFAULT,
            block_imds: false,
            services_known: config.routing.service_prefixes.is_some(),
            log: config.datapath.log,
        },
        max_flows: config.datapath.max_flows,
        max_opening: config.datapath.max_flows / 4,
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
