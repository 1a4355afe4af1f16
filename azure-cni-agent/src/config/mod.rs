//! The agent's configuration: the file `agent.toml`, with a default for every key, and the command line, which wins over it.
//!
//! The rule: a value of [`AgentConfig`] is valid. Reading refuses unknown keys, and values that contradict each other, with an
//! error that names the key. Tests check `deploy/agent.toml` against these types, and write the tables of
//! `docs/configuration.md` from them: the comment of a field is the documentation of its key.
#![forbid(unsafe_code)]

mod bounds;
mod changes;
pub mod check;
mod error;
mod level;
pub mod load;
mod ports;
pub mod sizes;
mod source;
mod text_values;
mod timeouts;
mod url;

#[cfg(test)]
mod documents;

use std::net::IpAddr;
use std::path::PathBuf;

use azure_cni_api::cni::InterfaceName;
use azure_cni_api::socket::DEFAULT_SOCKET;
use azure_cni_api::spool::DEFAULT_DIR as DEFAULT_SPOOL_DIR;
pub use error::ConfigError;
use ipnet::IpNet;
pub use level::{LogLevel, UnknownLogLevel};
pub use ports::{PortRange, PortRangeError};
use serde::{Deserialize, Serialize};
pub use source::{PoolConfig, PoolSource};
pub use timeouts::TimeoutsConfig;
pub use url::{HttpUrl, InvalidUrl};

/// Where the agent looks for its configuration when the command line names no file.
pub const DEFAULT_PATH: &str = "/etc/azure-cni/agent.toml";

/// The whole of `agent.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AgentConfig {
    /// The VM's NIC: pods get its secondary addresses and leave through it. Absent: the interface of the default route.
    #[serde(deserialize_with = "text_values::interface", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub uplink: Option<InterfaceName>,
    /// Unix socket on which the CNI plugin and `azure-cni-ctl` reach the agent; 107 bytes at most. The plugin takes its path
    /// from the network configuration's `agentSocket`, else from `AZURE_CNI_SOCKET`, else uses this default.
    pub socket: PathBuf,
    /// Directory of the agent's state, which must survive a restart. The agent makes it with mode 0700 if absent. Only one
    /// agent at a time can use it.
    pub state_dir: PathBuf,
    /// Directory, below a mounted bpffs, in which the agent pins programs and maps.
    pub bpffs_dir: PathBuf,
    /// Directory in which the plugin stores DEL and GC requests while no agent runs; the agent executes them when it starts.
    /// For root only, made if absent. The plugin takes its path from the network configuration's `spoolDir`, else from
    /// `AZURE_CNI_SPOOL`, else uses this default: plugin and agent must use the same directory.
    pub spool_dir: PathBuf,
    /// File of the runtime's network configuration, such as `/etc/cni/net.d/10-azure.conflist`. The agent writes it as soon as
    /// it serves, so that the runtime does not report the node as ready before, and offers the versions of CNI that all plugins
    /// in it speak: it asks them at its start and every minute. It never changes a file that it did not write. Absent: the agent
    /// writes none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conflist: Option<PathBuf>,
    /// Directories in which the runtime looks for plugins, for `conflist`. Of a plugin that several of them have, each is asked.
    pub cni_bin_dirs: Vec<PathBuf>,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    #[cfg_attr(test, schemars(with = "String"))]
    pub log_level: LogLevel,
    pub pool: PoolConfig,
    pub reconcile: ReconcileConfig,
    pub routing: RoutingConfig,
    pub snat: SnatConfig,
    pub timeouts: TimeoutsConfig,
    pub datapath: DatapathConfig,
}

/// `[reconcile]`: how often the agent compares records, leases and the kernel, and when it acts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ReconcileConfig {
    /// How often the agent compares records, leases and the kernel, in seconds. 1 to 3600.
    pub interval_secs: u64,
    /// For how many seconds a pod's namespace and veth must be gone before the agent releases the pod's addresses, as no DEL
    /// has. The agent watches veths go, so this is not rounded up to `interval_secs`. 0 to 86400.
    pub grace_secs: u64,
}

/// `[routing]`: which destinations see the pod's own address, and which belong to the host's stack.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RoutingConfig {
    /// Destinations that see the pod's own address: the VNet, peered VNets, on-premises networks. The pool's own
    /// subnets are always included. All other destinations see the NIC's primary address.
    #[serde(deserialize_with = "text_values::prefixes")]
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub vnet_prefixes: Vec<IpNet>,
    /// Addresses that pods reach through the host's stack, such as a node-local DNS cache's `169.254.20.10` or `fd00::10`. The
    /// agent adds those of `ipsToRouteViaHost` in the network configuration.
    #[serde(deserialize_with = "text_values::addresses")]
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub host_addresses: Vec<IpAddr>,
    /// The cluster's service prefixes. Absent: not known, so everything outside of the VNet prefixes goes up the host's
    /// stack, where kube-proxy translates service addresses. A list, even an empty one, must be complete for both families:
    /// everything else takes the short way to the wire.
    #[serde(deserialize_with = "text_values::optional_prefixes", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Option<Vec<String>>"))]
    pub service_prefixes: Option<Vec<IpNet>>,
    /// Directory of the ip-masq-agent's configuration, such as its mounted ConfigMap; see below. Absent: none is read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub masq_dir: Option<PathBuf>,
    /// Pod addresses that have a public address of their own. All destinations see these pods with the pod's address, also
    /// the Internet; only the platform's services (168.63.129.16, 169.254.169.254) see the NIC's primary address.
    #[serde(deserialize_with = "text_values::addresses")]
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub public_addresses: Vec<IpAddr>,
    /// `true` drops packets of pods to the platform's metadata service, 169.254.169.254 TCP 80.
    pub block_imds: bool,
}

/// `[snat]`: the ports of the NIC's primary address that translated flows use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SnatConfig {
    /// Ports of the NIC's primary address that source NAT uses. Must overlap neither with `node_ports` nor with the host's
    /// `net.ipv4.ip_local_port_range`, or the agent does not start: a pod's flow and a socket of the host would collide.
    /// Source NAT leaves out ports that the host listens on (TCP) or has bound (UDP); the agent reads these every 10
    /// seconds.
    #[cfg_attr(test, schemars(with = "String"))]
    pub port_range: PortRange,
    /// Ports of NodePort services; in Kubernetes the API server's `--service-node-port-range`.
    #[cfg_attr(test, schemars(with = "String"))]
    pub node_ports: PortRange,
    /// What part of `port_range` one pod may use towards the same destination, in percent, 1 to 100: no pod takes all ports from
    /// the others. Which ports these are depends on the pod's address. 100, or a range of fewer than 256 ports: each pod may use
    /// the whole range.
    pub pod_port_share: u8,
    /// `true`: destinations outside of the VNet prefixes see the NIC's primary IPv6 address instead of the pod's. The
    /// platform routes pods' own IPv6 addresses inside the VNet only.
    pub ipv6: bool,
}

/// `[datapath]`: how the eBPF programs are attached and sized.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DatapathConfig {
    /// `auto`: TCX at the uplink if the kernel has it (6.6 and later), and filters of the clsact queueing discipline at pods,
    /// with which pods start several times as fast. `tcx`: TCX everywhere, for some 3 % less processor time per packet; the
    /// agent does not start without it. `clsact`: clsact everywhere.
    #[cfg_attr(test, schemars(with = "String"))]
    pub attach: AttachMode,
    /// Entries of the connection table, and of the table of translations. 1024 to 16777216. Absent: one for every 64
    /// KiB of the machine's memory, from 65536 (up to 4 GiB) to 524288 (from 32 GiB). A full table refuses new flows
    /// and counts them; live ones stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_flows: Option<u32>,
    /// Entries of each table of flows that are not assured, of TCP and of datagrams, and of their translations. A flood can only
    /// fill them with itself. 1024 to 16777216. Absent: a quarter of `max_flows`, at least 16384.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_half_open: Option<u32>,
    /// Entries of each IP version's route table, 1024 to 1048576: one for each address of a service, of the pool and of the node,
    /// and for each prefix of the VNet and of the node's routes. Only those in use take memory. If there are more, `status`
    /// says what that means.
    pub max_routes: u32,
    /// What part of the connection table the flows of one pod may take, in percent, 1 to 100: no pod takes it from the others.
    /// 100: each may take all of it. Traffic that passes the host's stack is never refused for this.
    pub pod_flow_share: u8,
    /// MTU of pod interfaces, 68 to 65535. Absent: the uplink's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// `true`: the programs log rare events. They never log per packet.
    pub log: bool,
}

/// How programs are attached to interfaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttachMode {
    /// TCX for the uplink if the kernel has it, clsact for pods.
    Auto,
    /// TCX links (kernel 6.6 and later); refuse to start without.
    Tcx,
    /// Filters of the clsact queueing discipline.
    Clsact,
}

impl Default for AgentConfig {
    fn default() -> Self {
        Self {
            uplink: None,
            socket: DEFAULT_SOCKET.into(),
            state_dir: "/var/lib/azure-cni".into(),
            bpffs_dir: "/sys/fs/bpf/azure-cni".into(),
            spool_dir: DEFAULT_SPOOL_DIR.into(),
            conflist: None,
            cni_bin_dirs: vec!["/opt/cni/bin".into(), "/usr/lib/cni".into()],
            log_level: LogLevel::Info,
            pool: PoolConfig::default(),
            reconcile: ReconcileConfig::default(),
            routing: RoutingConfig::default(),
            snat: SnatConfig::default(),
            timeouts: TimeoutsConfig::default(),
            datapath: DatapathConfig::default(),
        }
    }
}

impl Default for ReconcileConfig {
    fn default() -> Self {
        Self { interval_secs: 10, grace_secs: 1 }
    }
}

impl Default for SnatConfig {
    fn default() -> Self {
        // Below Linux's default ephemeral range (32768-60999) and below Kubernetes' default NodePort range.
        Self {
            port_range: PortRange::literal(1024, 29999),
            node_ports: PortRange::literal(30000, 32767),
            pod_port_share: 25,
            ipv6: false,
        }
    }
}

impl Default for DatapathConfig {
    fn default() -> Self {
        Self {
            attach: AttachMode::Auto,
            max_flows: None,
            max_half_open: None,
            max_routes: 65_536,
            pod_flow_share: 25,
            mtu: None,
            log: false,
        }
    }
}
