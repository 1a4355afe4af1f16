//! The error object that the plugin prints when a call fails.

use std::fmt;

use serde::Deserialize;

/// The error object of the CNI specification.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CniError {
    /// The version that the call asked for.
    pub cni_version: String,
    /// What the runtime decides by.
    pub code: u32,
    /// One line for people.
    pub msg: String,
    /// More lines for people.
    #[serde(default)]
    pub details: String,
}

impl fmt::Display for CniError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error {}: {}", self.code, self.msg)?;
        if self.details.is_empty() { Ok(()) } else { write!(f, " ({})", self.details) }
    }
}
