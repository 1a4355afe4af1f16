//! Checks between values, and between values and the host, beyond the form of each. Pure: the host's values are arguments.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::AgentConfig;
use super::bounds::within;
use super::error::ConfigError;
use super::ports::PortRange;

/// `sun_path` is 108 bytes (include/uapi/linux/un.h), the terminating zero included.
const SOCKET_PATH_MAX: usize = 107;
/// The smallest MTU an IPv4 link may have (RFC 791, section 3.2), and the largest total length of a packet.
const MTU: (u64, u64) = (68, 65_535);
/// Below, a single busy pod fills the table; above, the table alone takes gigabytes of locked memory.
const MAX_FLOWS: (u64, u64) = (1024, 16_777_216);
/// A share of nothing would cut pods off.
const MAX_ROUTES: (u64, u64) = (1024, 1_048_576);
const PERCENT: (u64, u64) = (1, 100);
/// An hour.
const RECONCILE_INTERVAL_SECS: (u64, u64) = (1, 3600);
/// A day.
const RECONCILE_GRACE_SECS: (u64, u64) = (0, 86_400);

impl AgentConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        absolute("socket", &self.socket)?;
        absolute("state_dir", &self.state_dir)?;
        absolute("bpffs_dir", &self.bpffs_dir)?;
        absolute("spool_dir", &self.spool_dir)?;
        if let Some(file) = &self.conflist {
            absolute("conflist", file)?;
        }
        for dir in &self.cni_bin_dirs {
            absolute("cni_bin_dirs", dir)?;
        }
        absolute("pool.file", &self.pool.file)?;
        if let Some(dir) = &self.routing.masq_dir {
            absolute("routing.masq_dir", dir)?;
        }
        let length = self.socket.as_os_str().as_bytes().len();
        if length > SOCKET_PATH_MAX {
            return Err(ConfigError::SocketPathTooLong { path: self.socket.clone(), length, max: SOCKET_PATH_MAX });
        }
        self.pool.check()?;
        within("reconcile.interval_secs", self.reconcile.interval_secs, RECONCILE_INTERVAL_SECS)?;
        within("reconcile.grace_secs", self.reconcile.grace_secs, RECONCILE_GRACE_SECS)?;
        if let Some(max_flows) = self.datapath.max_flows {
            within("datapath.max_flows", max_flows.into(), MAX_FLOWS)?;
        }
        if let Some(max_half_open) = self.datapath.max_half_open {
            within("datapath.max_half_open", max_half_open.into(), MAX_FLOWS)?;
        }
        within("datapath.max_routes", self.datapath.max_routes.into(), MAX_ROUTES)?;
        within("datapath.pod_flow_share", self.datapath.pod_flow_share.into(), PERCENT)?;
        within("snat.pod_port_share", self.snat.pod_port_share.into(), PERCENT)?;
        if let Some(mtu) = self.datapath.mtu {
            within("datapath.mtu", mtu.into(), MTU)?;
        }
        self.timeouts.check()?;
        avoids_node_ports(self.snat.port_range, self.snat.node_ports)
    }
}

/// The ports of translated flows overlap neither with NodePorts nor with the ports that the kernel gives the host's own
/// sockets (`net.ipv4.ip_local_port_range`, which [`PortRange::from_sysctl`] reads).
pub fn check_port_range(
    port_range: PortRange,
    node_ports: PortRange,
    host_ephemeral: PortRange,
) -> Result<(), ConfigError> {
    avoids_node_ports(port_range, node_ports)?;
    match port_range.intersection(host_ephemeral) {
        Some(common) => Err(ConfigError::EphemeralPortsOverlap { port_range, ephemeral: host_ephemeral, common }),
        None => Ok(()),
    }
}

fn avoids_node_ports(port_range: PortRange, node_ports: PortRange) -> Result<(), ConfigError> {
    match port_range.intersection(node_ports) {
        Some(common) => Err(ConfigError::NodePortsOverlap { port_range, node_ports, common }),
        None => Ok(()),
    }
}

fn absolute(key: &'static str, path: &Path) -> Result<(), ConfigError> {
    if path.is_absolute() { Ok(()) } else { Err(ConfigError::RelativePath { key, path: path.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> PortRange {
        text.parse().unwrap()
    }

    #[test]
    fn the_defaults_agree_with_each_other_and_with_a_default_kernel() {
        let config = AgentConfig::default();
        config.check().unwrap();
        check_port_range(config.snat.port_range, config.snat.node_ports, range("32768-60999")).unwrap();
    }

    #[test]
    fn translated_ports_never_overlap_those_of_services_or_host_sockets() {
        let node_ports = range("30000-32767");
        let ephemeral = range("32768-60999");
        for (port_range, complaint) in [
            ("1024-29999", None),
            ("61000-65535", None),
            ("1024-30000", Some("snat.node_ports 30000-32767 both hold 30000-30000")),
            ("32767-32767", Some("both hold 32767-32767")),
            ("1024-65535", Some("both hold 30000-32767")),
            ("32768-40000", Some("net.ipv4.ip_local_port_range 32768-60999 both hold 32768-40000")),
            ("60999-65535", Some("both hold 60999-60999")),
        ] {
            let result = check_port_range(range(port_range), node_ports, ephemeral).map_err(|error| error.to_string());
            match complaint {
                None => assert_eq!(result, Ok(()), "{port_range}"),
                Some(complaint) => {
                    let error = result.expect_err(port_range);
                    assert!(error.contains(complaint), "{port_range}: {error}");
                }
            }
        }
    }

    #[test]
    fn values_out_of_bounds_are_refused_by_key() {
        let refused = |change: fn(&mut AgentConfig), key: &str| {
            let mut config = AgentConfig::default();
            change(&mut config);
            let error = config.check().expect_err(key).to_string();
            assert!(error.contains(key), "{key}: {error}");
        };
        refused(|c| c.socket = "run/agent.sock".into(), "socket");
        refused(|c| c.socket = format!("/{}", "x".repeat(107)).into(), "108 bytes long");
        refused(|c| c.state_dir = "state".into(), "state_dir");
        refused(|c| c.bpffs_dir = "./bpf".into(), "bpffs_dir");
        refused(|c| c.spool_dir = "spool".into(), "spool_dir");
        refused(|c| c.conflist = Some("10-azure.conflist".into()), "conflist");
        refused(|c| c.cni_bin_dirs = vec!["/opt/cni/bin".into(), "bin".into()], "cni_bin_dirs");
        refused(|c| c.pool.file = "pool.xml".into(), "pool.file");
        refused(|c| c.routing.masq_dir = Some("masq".into()), "routing.masq_dir");
        refused(|c| c.pool.cooldown_secs = 86_401, "pool.cooldown_secs");
        refused(|c| c.pool.connect_timeout_secs = 0, "pool.connect_timeout_secs");
        refused(|c| c.pool.request_timeout_secs = 61, "pool.request_timeout_secs");
        refused(|c| c.pool.refresh_min_secs = 0, "pool.refresh_min_secs");
        refused(|c| c.pool.refresh_max_secs = 3, "pool.refresh_max_secs");
        refused(|c| c.datapath.max_flows = Some(1023), "datapath.max_flows");
        refused(|c| c.datapath.max_flows = Some(u32::MAX), "datapath.max_flows");
        refused(|c| c.datapath.max_half_open = Some(1023), "datapath.max_half_open");
        refused(|c| c.datapath.max_half_open = Some(16_777_217), "datapath.max_half_open");
        refused(|c| c.datapath.max_routes = 1023, "datapath.max_routes");
        refused(|c| c.datapath.max_routes = 1_048_577, "datapath.max_routes");
        refused(|c| c.datapath.pod_flow_share = 0, "datapath.pod_flow_share");
        refused(|c| c.datapath.pod_flow_share = 101, "datapath.pod_flow_share");
        refused(|c| c.snat.pod_port_share = 0, "snat.pod_port_share");
        refused(|c| c.snat.pod_port_share = 101, "snat.pod_port_share");
        refused(|c| c.datapath.mtu = Some(67), "datapath.mtu");
        refused(|c| c.datapath.mtu = Some(65_536), "datapath.mtu");
        refused(|c| c.snat.port_range = range("1024-30000"), "snat.port_range");
    }

    #[test]
    fn the_longest_socket_path_of_the_kernel_is_accepted() {
        let config = AgentConfig { socket: format!("/{}", "x".repeat(106)).into(), ..AgentConfig::default() };
        config.check().unwrap();
    }
}
