//! What an operator may set: the file `agent.toml`, with a default for every key, and the command line above it.
//!
//! A configuration that exists is valid: reading it refuses unknown keys, and values that contradict each other, with
//! an error that names the key. `docs/configuration.md` and `deploy/agent.toml` are checked against these types.
#![forbid(unsafe_code)]

mod changes;
mod check;
mod error;
mod level;
mod load;
mod ports;
mod sizes;
mod text_values;
mod timeouts;

#[cfg(test)]
mod documents;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use check::check_port_range;
pub use error::ConfigError;
pub use level::{LogLevel, UnknownLogLevel};
pub use load::Overrides;
pub use ports::{PortRange, PortRangeError};
pub use sizes::TableSizes;
pub use timeouts::TimeoutsConfig;

use crate::api::DEFAULT_SOCKET;
use crate::cni::InterfaceName;
use crate::spool::DEFAULT_DIR;

/// Where the agent looks for its configuration when the command line names no file.
pub const DEFAULT_PATH: &str = "/etc/azure-cni/agent.toml";

/// The whole of `agent.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AgentConfig {
    /// The VM's NIC; absent: the interface of the default route.
    #[serde(deserialize_with = "text_values::interface", skip_serializing_if = "Option::is_none")]
    pub uplink: Option<InterfaceName>,
    pub socket: PathBuf,
    pub state_dir: PathBuf,
    pub bpffs_dir: PathBuf,
    pub spool_dir: PathBuf,
    pub log_level: LogLevel,
    pub pool: PoolConfig,
    pub routing: RoutingConfig,
    pub snat: SnatConfig,
    pub timeouts: TimeoutsConfig,
    pub datapath: DatapathConfig,
}

/// `[pool]`: where pod addresses come from, and how soon a released one is handed out again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PoolConfig {
    pub source: PoolSource,
    pub file: PathBuf,
    pub cooldown_secs: u64,
    pub reuse_cooling: bool,
}

/// Who says which addresses the pool has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PoolSource {
    /// A file in the wire server's XML form.
    File,
}

/// `[routing]`: which destinations see the pod's own address, and which belong to the host's stack.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RoutingConfig {
    #[serde(deserialize_with = "text_values::prefixes")]
    pub vnet_prefixes: Vec<IpNet>,
    #[serde(deserialize_with = "text_values::addresses")]
    pub host_addresses: Vec<IpAddr>,
    /// Absent and empty differ: absent means that the cluster's service prefixes are not known.
    #[serde(deserialize_with = "text_values::known_prefixes", skip_serializing_if = "Option::is_none")]
    pub service_prefixes: Option<Vec<IpNet>>,
    /// Of the ip-masq-agent's configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub masq_dir: Option<PathBuf>,
    /// Addresses of the pool that have a public address of their own.
    #[serde(deserialize_with = "text_values::addresses")]
    pub public_addresses: Vec<IpAddr>,
    /// Keeps pods from the platform's metadata service.
    pub block_imds: bool,
}

/// `[snat]`: the ports of the NIC's primary address that translated flows use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SnatConfig {
    pub port_range: PortRange,
    pub node_ports: PortRange,
    /// Whether IPv6 to the Internet is translated as well.
    pub ipv6: bool,
}

/// `[datapath]`: how the eBPF programs are attached and sized.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DatapathConfig {
    pub attach: AttachMode,
    /// Absent: by the machine's memory, see [`TableSizes`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_flows: Option<u32>,
    /// Half-open and one-way flows; absent: a share of `max_flows`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_opening: Option<u32>,
    /// Of pod interfaces; absent: the uplink's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    pub log: bool,
}

/// How programs are attached to interfaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttachMode {
    /// TCX where the kernel has it, else clsact.
    Auto,
    /// TCX links (kernel 6.6 and later); refuse to start without.
    Tcx,
    /// Filters of the clsact queueing discipline.
    Clsact,
}

impl PoolConfig {
    pub fn cooldown(&self) -> Duration {
        Duration::from_secs(self.cooldown_secs)
    }
}

impl Default for AgentConfig {
    fn default() -> Self {
        Self {
            uplink: None,
            socket: DEFAULT_SOCKET.into(),
            state_dir: "/var/lib/azure-cni".into(),
            bpffs_dir: "/sys/fs/bpf/azure-cni".into(),
            spool_dir: DEFAULT_DIR.into(),
            log_level: LogLevel::Info,
            pool: PoolConfig::default(),
            routing: RoutingConfig::default(),
            snat: SnatConfig::default(),
            timeouts: TimeoutsConfig::default(),
            datapath: DatapathConfig::default(),
        }
    }
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            source: PoolSource::File,
            file: "/etc/azure-cni/pool.xml".into(),
            cooldown_secs: 30,
            reuse_cooling: false,
        }
    }
}

impl Default for SnatConfig {
    fn default() -> Self {
        // Below Linux's default ephemeral range (32768-60999) and below Kubernetes' default NodePort range.
        Self { port_range: PortRange::literal(1024, 29999), node_ports: PortRange::literal(30000, 32767), ipv6: false }
    }
}

impl Default for DatapathConfig {
    fn default() -> Self {
        Self { attach: AttachMode::Auto, max_flows: None, max_opening: None, mtu: None, log: false }
    }
}
