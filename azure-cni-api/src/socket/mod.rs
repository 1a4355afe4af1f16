//! What is said on the agent's socket: one request and one response per connection, each a frame of JSON.
//!
//! A frame is its length as four bytes, big endian, then that many bytes, `MAX_FRAME` at most each way.

mod client;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

pub use client::{CallError, call};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::boot_time::BootTime;
use crate::cni::{Environment, ErrorObject};

/// Where the agent listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/azure-cni/agent.sock";

/// The longest frame, without its length. Configurations of thousands of attachments (GC) fit.
pub const MAX_FRAME: usize = 1 << 20;

/// The longest that a call may take, from the plugin's start to its end. Kubelet gives a pod's set-up four minutes; no
/// configuration can change this.
pub const LONGEST_CALL: Duration = Duration::from_secs(60);

/// The bytes of a frame's length.
pub const FRAME_HEADER: usize = 4;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Request {
    /// A call of the runtime, as the plugin was given it. The answer is the verb's result, `null` where it has none.
    Cni(CniRequest),
    /// The answer is a [`Status`].
    Status,
    /// The answer is a list of [`EndpointInfo`].
    Endpoints,
    /// The answer is a list of [`DropCount`].
    Drops,
    /// The answer is a list of [`RefusalInfo`], the latest last.
    Events,
    /// The answer is a list of [`StepTime`].
    Steps,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CniRequest {
    #[serde(flatten)]
    pub environment: Environment,
    /// The network configuration from the plugin's standard input.
    pub config: Value,
    /// When the plugin was started; absent: when the agent was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<BootTime>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Response {
    Ok(Value),
    Error(ErrorObject),
}

/// What the agent is and how it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Of the agent.
    pub version: String,
    /// The number of the map layout.
    pub abi: u32,
    pub uplink: String,
    /// The NIC's primary address, which source NAT uses.
    pub primary: IpAddr,
    /// The NIC's primary IPv6 address, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary6: Option<IpAddr>,
    /// `tcx` or `clsact`.
    pub attach_mode: String,
    /// Likewise, of pods.
    pub pod_attach_mode: String,
    pub source: SourceStatus,
    pub pool: PoolStatus,
    /// Of IPv6, where the pool has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool6: Option<PoolStatus>,
    pub endpoints: usize,
    pub tables: Vec<TableStatus>,
    /// Ports of the NAT's range that no pod is given, because sockets of the host hold them.
    pub host_ports: usize,
    /// What the agent has put in order of its own account since it started, by kind, and how often.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reconciled: BTreeMap<String, u64>,
    /// What needs an operator, one sentence each; empty if all is well.
    pub problems: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolStatus {
    pub total: usize,
    pub free: usize,
    pub leased: usize,
}

/// Where the pool comes from, and how that does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceStatus {
    /// `pool.source`.
    pub kind: String,
    /// URL or path.
    pub from: String,
    /// Since the source last confirmed what is in use; absent: not yet.
    pub confirmed_secs_ago: Option<u64>,
    /// What is in use is older than the last attempt to renew it.
    pub stale: bool,
    /// Of the last attempt, if it failed.
    pub last_error: Option<String>,
    /// Since the agent started.
    pub looks: u64,
    pub failures: u64,
    /// How often what it lists has changed.
    pub changes: u64,
}

/// How full a table of flows or translations is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableStatus {
    /// Of the map, such as `FLOWS4`.
    pub name: String,
    pub used: u64,
    pub max: u64,
}

/// One pod's attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointInfo {
    pub attachment: crate::cni::AttachmentId,
    /// The first of `addresses`.
    pub address: IpAddr,
    /// One of each family that the pod has, IPv4 first.
    pub addresses: Vec<IpAddr>,
    pub host_interface: String,
    pub ifindex: u32,
    pub netns: String,
    pub pod_mac: String,
}

/// Flows that were refused for one reason: equal ones are one entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RefusalInfo {
    /// Absent: no attachment had the source's address.
    pub pod: Option<crate::cni::AttachmentId>,
    pub source: IpAddr,
    pub destination: IpAddr,
    /// Zero where the protocol has none.
    pub destination_port: u16,
    /// Its number.
    pub protocol: u8,
    /// The name of the drop reason.
    pub reason: String,
    pub count: u64,
    /// Milliseconds since 1970, of the first and of the last of them.
    pub first_unix_ms: u64,
    pub last_unix_ms: u64,
}

/// How long a step of a command takes, in microseconds, since the agent started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepTime {
    /// `ADD` and so on.
    pub command: String,
    /// `whole`: the call from its arrival at the agent to its answer.
    pub step: String,
    pub count: u64,
    pub p50_us: u64,
    pub p99_us: u64,
    pub max_us: u64,
}

/// How many packets were dropped for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DropCount {
    pub number: u32,
    pub name: String,
    pub meaning: String,
    /// The sum over all CPUs.
    pub packets: u64,
    pub per_cpu: Vec<u64>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cni::{CniError, Command};

    fn add() -> CniRequest {
        let environment = Environment {
            command: Command::Add,
            container_id: Some("c1".into()),
            netns: Some("/run/netns/p".into()),
            ifname: Some("eth0".into()),
            args: Some("A=b".into()),
            path: Some("/opt/cni/bin".into()),
            traceparent: None,
        };
        CniRequest { environment, config: json!({"name": "azure"}), asked: Some(BootTime::from_nanos(7)) }
    }

    #[test]
    fn requests_have_the_form_that_is_documented() {
        for (request, expected) in [
            (
                Request::Cni(add()),
                json!({"op": "cni", "command": "ADD", "containerId": "c1", "netns": "/run/netns/p", "ifname": "eth0",
                       "args": "A=b", "path": "/opt/cni/bin", "traceparent": null, "config": {"name": "azure"}, "asked": 7}),
            ),
            (Request::Status, json!({"op": "status"})),
            (Request::Endpoints, json!({"op": "endpoints"})),
            (Request::Drops, json!({"op": "drops"})),
            (Request::Events, json!({"op": "events"})),
            (Request::Steps, json!({"op": "steps"})),
        ] {
            assert_eq!(serde_json::to_value(&request).unwrap(), expected);
            assert_eq!(serde_json::from_value::<Request>(expected).unwrap(), request);
        }
    }

    #[test]
    fn a_status_says_of_ipv6_only_where_there_is_some() {
        let without = json!({
            "version": "1", "abi": 1, "uplink": "eth0", "primary": "10.240.0.4", "attachMode": "tcx", "podAttachMode": "clsact",
            "source": {"kind": "imds", "from": "http://169.254.169.254/", "confirmedSecsAgo": 5, "stale": false,
                "lastError": null, "looks": 2, "failures": 1, "changes": 0},
            "pool": {"total": 3, "free": 2, "leased": 1}, "endpoints": 1,
            "tables": [{"name": "FLOWS4", "used": 0, "max": 9}], "hostPorts": 0, "problems": [],
        });
        let status: Status = serde_json::from_value(without.clone()).unwrap();
        assert_eq!(serde_json::to_value(&status).unwrap(), without);

        let dual = Status { primary6: Some("fd00::4".parse().unwrap()), pool6: Some(status.pool), ..status };
        let written = serde_json::to_value(&dual).unwrap();
        assert_eq!((&written["primary6"], &written["pool6"]), (&json!("fd00::4"), &without["pool"]));
        assert_eq!(serde_json::from_value::<Status>(written).unwrap(), dual);
    }

    #[test]
    fn a_request_may_leave_out_what_it_does_not_have() {
        let request = json!({"op": "cni", "command": "STATUS", "path": "/opt/cni/bin", "config": {}});
        let Request::Cni(request) = serde_json::from_value(request).unwrap() else { panic!("not a CNI request") };
        assert_eq!((request.environment.command, request.environment.container_id), (Command::Status, None));
        assert_eq!(request.asked, None);
    }

    #[test]
    fn an_unknown_request_is_refused() {
        for request in [json!({"op": "reboot"}), json!({}), json!({"op": "cni", "command": "ADD"})] {
            assert!(serde_json::from_value::<Request>(request.clone()).is_err(), "{request}");
        }
    }

    #[test]
    fn responses_have_the_form_that_is_documented() {
        let error = CniError::try_again("no address is free").report("1.0.0");
        for (response, expected) in [
            (Response::Ok(Value::Null), json!({"ok": null})),
            (Response::Ok(json!({"ips": []})), json!({"ok": {"ips": []}})),
            (
                Response::Error(error),
                json!({"error": {"cniVersion": "1.0.0", "code": 11, "msg": "no address is free", "details": ""}}),
            ),
        ] {
            assert_eq!(serde_json::to_value(&response).unwrap(), expected);
            assert_eq!(serde_json::from_value::<Response>(expected).unwrap(), response);
        }
    }
}
