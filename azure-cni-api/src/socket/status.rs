//! The answer to [`Request::Status`](super::Request::Status).

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// The state of the agent and of what it manages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The agent's version.
    pub version: String,
    pub map_layout: u32,
    /// The name of the uplink's interface.
    pub uplink: String,
    /// The NIC's primary address, which source NAT uses.
    pub primary: IpAddr,
    /// The NIC's primary IPv6 address, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary6: Option<IpAddr>,
    /// How the uplink's programs are attached: `tcx` or `clsact`.
    pub uplink_attach_mode: String,
    /// How the pods' programs are attached: `tcx` or `clsact`.
    pub pod_attach_mode: String,
    pub source: SourceStatus,
    pub pool: PoolStatus,
    /// The pool's IPv6 addresses, if it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool6: Option<PoolStatus>,
    pub endpoints: usize,
    pub tables: Vec<TableStatus>,
    /// Ports of the source NAT range that pods do not get, because sockets of the host hold them.
    pub reserved_ports: usize,
    /// Destinations that rules of the node do something with; `None`: the rules cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub services: Option<ServicesStatus>,
    /// Prefixes that the node's routes lead elsewhere than to the uplink.
    #[serde(default)]
    pub routes_elsewhere: usize,
    /// How often the reconciler has repaired something since the agent started, by kind.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub repairs: BTreeMap<String, u64>,
    /// What an operator has to act on, one sentence each; empty if all is well.
    pub problems: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolStatus {
    pub total: usize,
    pub free: usize,
    pub leased: usize,
}

/// How many destinations there are, by what holds the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicesStatus {
    /// With those of iptables-nft.
    pub nftables: usize,
    /// Of the legacy iptables.
    pub iptables: usize,
}

/// Where the pool comes from, and how current it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceStatus {
    /// The configured `pool.source`.
    pub kind: String,
    /// The source's URL or path.
    pub location: String,
    /// Seconds since the source last confirmed the pool in use; `None` if it has not done so yet.
    pub confirmed_secs_ago: Option<u64>,
    /// The pool in use is older than the last attempt to refresh it.
    pub stale: bool,
    /// The error of the last attempt, if it failed.
    pub last_error: Option<String>,
    /// How often the agent has asked the source since it started.
    pub attempts: u64,
    pub failures: u64,
    /// How often the source's list has changed.
    pub changes: u64,
}

/// How full a table of flows or translations is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableStatus {
    /// The map's name, such as `FLOWS4`.
    pub name: String,
    pub used: u64,
    pub max: u64,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_status_mentions_ipv6_only_if_there_is_some() {
        let without = json!({
            "version": "1", "mapLayout": 1, "uplink": "eth0", "primary": "10.240.0.4", "uplinkAttachMode": "tcx", "podAttachMode": "clsact",
            "source": {"kind": "imds", "location": "http://169.254.169.254/", "confirmedSecsAgo": 5, "stale": false,
                "lastError": null, "attempts": 2, "failures": 1, "changes": 0},
            "pool": {"total": 3, "free": 2, "leased": 1}, "endpoints": 1,
            "tables": [{"name": "FLOWS4", "used": 0, "max": 9}], "reservedPorts": 0, "routesElsewhere": 0,
            "problems": [],
        });
        let status: Status = serde_json::from_value(without.clone()).unwrap();
        assert_eq!(serde_json::to_value(&status).unwrap(), without);

        let dual = Status { primary6: Some("fd00::4".parse().unwrap()), pool6: Some(status.pool), ..status };
        let written = serde_json::to_value(&dual).unwrap();
        assert_eq!((&written["primary6"], &written["pool6"]), (&json!("fd00::4"), &without["pool"]));
        assert_eq!(serde_json::from_value::<Status>(written).unwrap(), dual);
    }
}
