//! Requests to the agent and the form of its response.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::boot_time::BootTime;
use crate::cni::{Environment, ErrorObject};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Request {
    /// A call of the runtime, as the plugin received it. The answer is the command's result, or `null` if it has none.
    Cni(CniRequest),
    /// The answer is a [`Status`](super::Status).
    Status,
    /// The answer is a list of [`EndpointInfo`](super::EndpointInfo).
    Endpoints,
    /// The answer is a list of [`DropCount`](super::DropCount).
    Drops,
    /// The answer is a list of [`RefusalInfo`](super::RefusalInfo), the latest last.
    Events,
    /// The answer is a list of [`StepLatency`](super::StepLatency).
    Steps,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CniRequest {
    #[serde(flatten)]
    pub environment: Environment,
    /// The network configuration from the plugin's standard input.
    pub config: Value,
    /// When the plugin was started; absent: when the request reached the agent.
    #[serde(rename = "requestedAt", default, skip_serializing_if = "Option::is_none")]
    pub requested_at: Option<BootTime>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Response {
    Ok(Value),
    Error(ErrorObject),
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
        CniRequest { environment, config: json!({"name": "azure"}), requested_at: Some(BootTime::from_nanos(7)) }
    }

    #[test]
    fn requests_have_the_form_that_is_documented() {
        for (request, expected) in [
            (
                Request::Cni(add()),
                json!({"op": "cni", "command": "ADD", "containerId": "c1", "netns": "/run/netns/p", "ifname": "eth0",
                       "args": "A=b", "path": "/opt/cni/bin", "traceparent": null, "config": {"name": "azure"}, "requestedAt": 7}),
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
    fn a_request_may_leave_out_optional_fields() {
        let request = json!({"op": "cni", "command": "STATUS", "path": "/opt/cni/bin", "config": {}});
        let Request::Cni(request) = serde_json::from_value(request).unwrap() else { panic!("not a CNI request") };
        assert_eq!((request.environment.command, request.environment.container_id), (Command::Status, None));
        assert_eq!(request.requested_at, None);
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
