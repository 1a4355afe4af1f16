//! Requests to azure-cns and its answers, as data. Requests and releases are per interface of a pod.
//!
//! Old servers know only a form for one address. It differs in the names of a few fields.

mod answer;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

pub use answer::{Assigned, AssignedSubnet, CnsAnswerError, parse_assigned, parse_released};
use azure_cni_api::cni::AttachmentId;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// An answer has a handful of addresses.
pub const MAX_BYTES: usize = 1 << 20;

/// Who an address is for: what a request says, and its release again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    pub id: AttachmentId,
    pub pod_name: String,
    pub pod_namespace: String,
}

/// The two forms of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Several addresses for a pod, such as one of each family.
    Many,
    /// One address; the only form that old servers know.
    One,
}

impl Form {
    pub fn request_path(self) -> &'static str {
        match self {
            Self::Many => "/network/requestipconfigs",
            Self::One => "/network/requestipconfig",
        }
    }

    pub fn release_path(self) -> &'static str {
        match self {
            Self::Many => "/network/releaseipconfigs",
            Self::One => "/network/releaseipconfig",
        }
    }
}

impl Claim {
    /// The body of a request or a release. `desired`: exactly these addresses; the old form has room for one.
    pub fn request(&self, form: Form, desired: &[IpAddr]) -> Value {
        let mut body = json!({
            "podInterfaceID": self.pod_interface_id(),
            "infraContainerID": self.id.container_id.as_str(),
            "orchestratorContext": {"podName": self.pod_name, "podNamespace": self.pod_namespace},
            "ifname": self.id.ifname.as_str(),
        });
        match form {
            Form::Many if desired.is_empty() => body["desiredIPAddresses"] = Value::Null,
            Form::Many => body["desiredIPAddresses"] = desired.iter().map(ToString::to_string).collect(),
            Form::One => body["desiredIPAddress"] = desired.first().map(ToString::to_string).unwrap_or_default().into(),
        }
        body
    }

    /// The name of an endpoint, as `azure-vnet` forms it: the container's first eight characters and the interface.
    pub fn pod_interface_id(&self) -> String {
        let container = self.id.container_id.as_str();
        format!("{}-{}", container.get(..8).unwrap_or(container), self.id.ifname.as_str())
    }
}
