//! The supported versions of the protocol, the commands that each has, and the answer to VERSION.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::environment::Command;
use super::error::{CniError, excerpt};

/// A supported version. The order is the order of release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum CniVersion {
    #[serde(rename = "0.3.0")]
    V0_3_0,
    #[serde(rename = "0.3.1")]
    V0_3_1,
    #[serde(rename = "0.4.0")]
    V0_4_0,
    #[serde(rename = "1.0.0")]
    V1_0_0,
    #[serde(rename = "1.1.0")]
    V1_1_0,
}

impl CniVersion {
    pub const SUPPORTED: [Self; 5] = [Self::V0_3_0, Self::V0_3_1, Self::V0_4_0, Self::V1_0_0, Self::V1_1_0];
    pub const NEWEST: Self = Self::V1_1_0;

    pub fn as_str(self) -> &'static str {
        match self {
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// CHECK came with 0.4.0, GC and STATUS with 1.1.0.
    pub(super) fn require(self, command: Command) -> Result<(), CniError> {
        let since = match command {
            Command::Add | Command::Del | Command::Version => Self::V0_3_0,
            Command::Check => Self::V0_4_0,
            Command::Gc | Command::Status => Self::V1_1_0,
        };
        if self >= since {
            return Ok(());
        }
        let msg = format!("cniVersion {self} does not have {command}: it came with {since}");
        Err(CniError::incompatible_version(msg))
    }
}

impl fmt::Display for CniVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for CniVersion {
    type Err = CniError;

    fn from_str(text: &str) -> Result<Self, CniError> {
        Self::SUPPORTED.into_iter().find(|version| version.as_str() == text).ok_or_else(|| {
            let supported = Self::SUPPORTED.map(Self::as_str).join(", ");
            CniError::incompatible_version(format!("cniVersion {} is not supported", excerpt(&text.into())))
                .with_details(format!("supported are {supported}"))
        })
    }
}

/// The version for an answer, even if the rest of the configuration is invalid.
pub fn reported_version(config: Option<&Value>) -> String {
    // The input may be anything: repeat it only if it looks like a version.
    let looks_like_one = |text: &&str| {
        (1..=16).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'))
    };
    let given = config.and_then(|config| config.get("cniVersion")).and_then(Value::as_str).filter(looks_like_one);
    given.unwrap_or(CniVersion::NEWEST.as_str()).to_owned()
}

/// The answer to VERSION. It never fails, because runtimes use it to choose a version.
pub fn version_answer(config: Option<&Value>) -> Value {
    json!({"cniVersion": reported_version(config), "supportedVersions": CniVersion::SUPPORTED.map(CniVersion::as_str)})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_strings_are_exact() {
        for version in CniVersion::SUPPORTED {
            assert_eq!(version.as_str().parse(), Ok(version));
            assert_eq!(serde_json::to_value(version).unwrap(), version.as_str());
        }
        for other in ["", "0.1.0", "0.2.0", "1.0", "v1.0.0", "1.1.0 ", "1.2.0", "0.3.00"] {
            let error = other.parse::<CniVersion>().unwrap_err();
            assert_eq!(u32::from(error.code), 1, "{other}");
            assert!(error.details.contains("0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0"), "{}", error.details);
        }
    }

    #[test]
    fn commands_exist_from_the_version_that_brought_them() {
        let allowed = |command| CniVersion::SUPPORTED.map(|version| version.require(command).is_ok());
        for command in [Command::Add, Command::Del, Command::Version] {
            assert_eq!(allowed(command), [true; 5], "{command}");
        }
        assert_eq!(allowed(Command::Check), [false, false, true, true, true]);
        for command in [Command::Gc, Command::Status] {
            assert_eq!(allowed(command), [false, false, false, false, true], "{command}");
            assert_eq!(u32::from(CniVersion::V1_0_0.require(command).unwrap_err().code), 1);
        }
    }

    #[test]
    fn version_answer_repeats_the_version_that_was_asked_with() {
        let supported = json!(["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]);
        for (config, version) in [
            (Some(json!({"cniVersion": "0.4.0"})), "0.4.0"),
            (Some(json!({"cniVersion": "2.0.0-rc1"})), "2.0.0-rc1"),
            (Some(json!({"cniVersion": 4})), "1.1.0"),
            (Some(json!({"cniVersion": "a\"b"})), "1.1.0"),
            (Some(json!({"cniVersion": "1".repeat(99)})), "1.1.0"),
            (Some(json!([])), "1.1.0"),
            (None, "1.1.0"),
        ] {
            let expected = json!({"cniVersion": version, "supportedVersions": supported});
            assert_eq!(version_answer(config.as_ref()), expected, "{config:?}");
        }
    }
}
