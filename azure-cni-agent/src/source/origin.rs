//! Which source the pool comes from, and where that is: what errors, the log and the stored pool name it by.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::config::PoolConfig;

/// What a pool can come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    WireServer,
    Imds,
    File,
    Cns,
}

impl Kind {
    /// As `pool.source` calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::WireServer => "wireserver",
            Self::Imds => "imds",
            Self::File => "file",
            Self::Cns => "cns",
        }
    }
}

/// A source and its URL or path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    pub kind: Kind,
    pub from: String,
}

impl Origin {
    pub fn of(config: &PoolConfig, kind: Kind) -> Self {
        let from = match kind {
            Kind::File => config.file.display().to_string(),
            Kind::WireServer => config.wireserver_url.to_string(),
            Kind::Imds => config.imds_url.to_string(),
            Kind::Cns => config.cns_url.to_string(),
        };
        Self { kind, from }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.name(), self.from)
    }
}
