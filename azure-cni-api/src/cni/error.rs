//! The error of a failed call: a code of the specification (or one of ours), a message and details.
//!
//! Every error reaches the runtime as an `ErrorObject`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The error codes: 1 to 99 are the specification's (section "Error"), 100 and up are this
/// plugin's own. 102 was used once and is not used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum ErrorCode {
    /// The configuration's `cniVersion` is not supported, or does not have this command. A retry does not help.
    IncompatibleVersion = 1,
    /// A field of the configuration requests an unsupported feature; the message has key and value. A retry does not help.
    UnsupportedField = 2,
    /// The container is not known; the runtime need not clean up after it.
    UnknownContainer = 3,
    /// A variable of the environment is missing or invalid. A retry does not help.
    Environment = 4,
    /// Reading or writing failed. A retry may help.
    Io = 5,
    /// The input is not JSON, or a field has the wrong JSON type. A retry does not help.
    Decode = 6,
    /// The configuration breaks a rule. A retry does not help.
    InvalidConfig = 7,
    /// `CNI_NETNS` is not a network namespace that a pod may have. A retry with the same one does not help.
    InvalidNetns = 8,
    /// A temporary condition (the agent restarts, the pool has no free address): the same call may succeed later.
    TryAgain = 11,
    /// STATUS: an ADD cannot succeed now.
    Unavailable = 50,
    /// STATUS: an ADD cannot succeed now, and pods that exist may have limited connectivity.
    LimitedConnectivity = 51,
    /// CHECK: the attachment is not as ADD left it; the message says what differs. Delete it and add it again.
    CheckFailed = 100,
    /// A fault of the plugin or the agent, or incompatible versions of them.
    Internal = 101,
    /// ADD: the pod's namespace already has an interface of this name that is not this attachment's.
    InterfaceExists = 103,
}

impl From<ErrorCode> for u32 {
    fn from(code: ErrorCode) -> u32 {
        code as u32
    }
}

/// Why a call failed. The code says whether a retry helps.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{msg}{}{details}", if .details.is_empty() { "" } else { ": " })]
pub struct CniError {
    pub code: ErrorCode,
    /// One complete sentence; runtimes show it to users.
    pub msg: String,
    /// More to find the cause by; may be empty.
    pub details: String,
}

macro_rules! constructors {
    ($($name:ident => $code:ident),+ $(,)?) => {
        $(
            #[doc = concat!("An error with [`ErrorCode::", stringify!($code), "`].")]
            pub fn $name(msg: impl Into<String>) -> Self {
                Self::new(ErrorCode::$code, msg)
            }
        )+
    };
}

impl CniError {
    pub fn new(code: ErrorCode, msg: impl Into<String>) -> Self {
        Self { code, msg: msg.into(), details: String::new() }
    }

    constructors! {
        incompatible_version => IncompatibleVersion,
        unknown_container => UnknownContainer,
        environment => Environment,
        io => Io,
        decode => Decode,
        invalid_config => InvalidConfig,
        invalid_netns => InvalidNetns,
        try_again => TryAgain,
        unavailable => Unavailable,
        limited_connectivity => LimitedConnectivity,
        check_failed => CheckFailed,
        internal => Internal,
        interface_exists => InterfaceExists,
    }

    /// The specification requires key and value in the message of code 2.
    pub fn unsupported_field(key: &str, value: &Value) -> Self {
        Self::new(ErrorCode::UnsupportedField, format!("{key} is not supported, and was given as {}", excerpt(value)))
    }

    pub fn with_details(mut self, details: impl Into<String>) -> Self {
        self.details = details.into();
        self
    }

    /// The error as it is reported to a caller that speaks `version`.
    pub fn report(&self, version: &str) -> ErrorObject {
        ErrorObject {
            cni_version: version.to_owned(),
            code: self.code.into(),
            msg: self.msg.clone(),
            details: self.details.clone(),
        }
    }

    pub fn to_json(&self, version: &str) -> Value {
        self.report(version).to_json()
    }
}

/// An error on its way to the runtime. The code is a plain number, so that the plugin passes on codes that only a newer
/// agent knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorObject {
    pub cni_version: String,
    pub code: u32,
    pub msg: String,
    #[serde(default)]
    pub details: String,
}

impl ErrorObject {
    pub fn to_json(&self) -> Value {
        serde_json::json!({
            "cniVersion": self.cni_version, "code": self.code, "msg": self.msg, "details": self.details,
        })
    }
}

/// The beginning of a value, short enough for a message: input may be a megabyte long.
pub(super) fn excerpt(value: &Value) -> String {
    crate::excerpt::excerpt(&value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_object_has_the_four_keys_of_the_specification() {
        let error = CniError::invalid_config("mtu is 3").with_details("68 is the least");
        assert_eq!(
            error.to_json("0.4.0"),
            serde_json::json!({"cniVersion": "0.4.0", "code": 7, "msg": "mtu is 3", "details": "68 is the least"})
        );
        assert_eq!(error.to_string(), "mtu is 3: 68 is the least");
        assert_eq!(CniError::io("x").to_string(), "x");
    }

    #[test]
    fn an_unsupported_field_is_named_with_its_value() {
        let error = CniError::unsupported_field("runtimeConfig.mac", &Value::from("0a:00:00:00:00:01"));
        assert_eq!(u32::from(error.code), 2);
        assert!(error.msg.contains("runtimeConfig.mac") && error.msg.contains("0a:00:00:00:00:01"), "{}", error.msg);
    }

    #[test]
    fn a_megabyte_of_value_does_not_become_a_megabyte_of_message() {
        let error = CniError::unsupported_field("runtimeConfig.mac", &Value::from("é".repeat(1 << 20)));
        assert!(error.msg.len() < 400, "{}", error.msg.len());
    }

    #[test]
    fn every_code_of_our_own_is_documented() {
        let document = include_str!("../../../docs/cni.md");
        for code in [ErrorCode::CheckFailed, ErrorCode::Internal, ErrorCode::InterfaceExists].map(u32::from) {
            assert!(code >= 100 && document.contains(&format!("\n| {code} | ")), "{code}");
        }
    }

    #[test]
    fn a_code_this_plugin_does_not_know_passes_through() {
        let from_newer_agent = serde_json::json!({"cniVersion": "1.1.0", "code": 177, "msg": "m", "details": ""});
        let object: ErrorObject = serde_json::from_value(from_newer_agent.clone()).unwrap();
        assert_eq!(object.to_json(), from_newer_agent);
    }
}
