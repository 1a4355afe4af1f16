//! How much the agent logs: one of five levels, checked when it is read.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tracing::level_filters::LevelFilter;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// Not one of the levels. A retry never helps: the text has to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a log level; use error, warn, info, debug or trace")]
pub struct UnknownLogLevel(String);

impl LogLevel {
    const ALL: [Self; 5] = [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl FromStr for LogLevel {
    type Err = UnknownLogLevel;

    fn from_str(text: &str) -> Result<Self, UnknownLogLevel> {
        let known = Self::ALL.into_iter().find(|level| text.eq_ignore_ascii_case(level.as_str()));
        known.ok_or_else(|| UnknownLogLevel(text.to_owned()))
    }
}

impl TryFrom<String> for LogLevel {
    type Error = UnknownLogLevel;

    fn try_from(text: String) -> Result<Self, UnknownLogLevel> {
        text.parse()
    }
}

impl From<LogLevel> for &'static str {
    fn from(level: LogLevel) -> Self {
        level.as_str()
    }
}

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Trace => Self::TRACE,
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_is_read_in_any_case_and_nothing_else_is() {
        for level in LogLevel::ALL {
            assert_eq!(level.as_str().parse(), Ok(level));
            assert_eq!(level.as_str().to_uppercase().parse(), Ok(level));
            assert_eq!(LevelFilter::from(level).to_string(), level.as_str());
        }
        for bad in ["", "off", "info ", "azure=debug"] {
            assert!(bad.parse::<LogLevel>().is_err(), "{bad:?}");
        }
    }
}
