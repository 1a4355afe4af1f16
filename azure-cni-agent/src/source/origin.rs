//! Which source the pool comes from, and where that is: what errors, the log and the stored pool name it by.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::config::{PoolConfig, PoolSource};

/// A source and its URL or path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    pub source: PoolSource,
    pub from: String,
}

impl Origin {
    pub fn of(config: &PoolConfig) -> Self {
        let from = match config.source {
            PoolSource::File => config.file.display().to_string(),
            PoolSource::WireServer => config.wireserver_url.to_string(),
            PoolSource::Imds => config.imds_url.to_string(),
            PoolSource::Cns => config.cns_url.to_string(),
        };
        Self { source: config.source, from }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.source.name(), self.from)
    }
}
