//! `[pool]`: where pod addresses come from, how that is asked, and how soon a released address is handed out again.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::check::within;
use super::{ConfigError, HttpUrl};

/// A day. Longer would hold addresses back for good.
const COOLDOWN_SECS: (u64, u64) = (0, 86_400);
/// A minute: whoever waits for longer waits for nothing.
const TIMEOUT_SECS: (u64, u64) = (1, 60);
/// A day. The least pause keeps a source that is down from being asked without end.
const REFRESH_SECS: (u64, u64) = (1, 86_400);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PoolConfig {
    /// Who says which addresses there are: `wireserver`, `imds`, `cns` or `file`. [ipam.md](ipam.md) tells what each
    /// is and how it is followed.
    #[cfg_attr(test, schemars(with = "String"))]
    pub source: PoolSource,
    /// The file, for `source = "file"`: the wire server's XML or the JSON of instance metadata, told apart by its
    /// content. It is read again every `refresh_min_secs`.
    pub file: PathBuf,
    /// Where the wire server is asked.
    #[cfg_attr(test, schemars(with = "String"))]
    pub wireserver_url: HttpUrl,
    /// Where instance metadata is asked.
    #[cfg_attr(test, schemars(with = "String"))]
    pub imds_url: HttpUrl,
    /// The azure-cns server; the paths of its calls are added.
    #[cfg_attr(test, schemars(with = "String"))]
    pub cns_url: HttpUrl,
    /// For how long a server may take to accept a connection. 1 to 60.
    pub connect_timeout_secs: u64,
    /// For how long one request may take, answer included. 1 to 60.
    pub request_timeout_secs: u64,
    /// The pause before the source is asked again after a change, after an error, and while pods find no free
    /// address. 1 to 86400.
    pub refresh_min_secs: u64,
    /// The longest pause: while nothing changes, each is twice the one before. `refresh_min_secs` to 86400.
    pub refresh_max_secs: u64,
    /// For how many seconds a released address is not handed out again, so that packets still on their way to the old
    /// pod do not reach a new one. 0 to 86400.
    pub cooldown_secs: u64,
    /// When every free address was released less than `cooldown_secs` ago: `true` hands out the one released first;
    /// `false` fails the pod's start with CNI error 11 (try again later), saying in how many seconds.
    pub reuse_cooling: bool,
}

/// Who says which addresses the pool has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PoolSource {
    /// A file in the wire server's or in instance metadata's form.
    File,
    /// The platform's wire server.
    WireServer,
    /// The platform's instance metadata.
    Imds,
    /// azure-cns, which gives an address to each attachment.
    Cns,
}

impl PoolSource {
    /// As it is written in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::WireServer => "wireserver",
            Self::Imds => "imds",
            Self::Cns => "cns",
        }
    }
}

impl PoolConfig {
    pub fn cooldown(&self) -> Duration {
        Duration::from_secs(self.cooldown_secs)
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        within("pool.cooldown_secs", self.cooldown_secs, COOLDOWN_SECS)?;
        within("pool.connect_timeout_secs", self.connect_timeout_secs, TIMEOUT_SECS)?;
        within("pool.request_timeout_secs", self.request_timeout_secs, TIMEOUT_SECS)?;
        within("pool.refresh_min_secs", self.refresh_min_secs, REFRESH_SECS)?;
        within("pool.refresh_max_secs", self.refresh_max_secs, (self.refresh_min_secs, REFRESH_SECS.1))
    }
}

impl Default for PoolConfig {
    fn default() -> Self {
        let literal = |text: &str| text.parse().expect("a constant that is a URL");
        Self {
            source: PoolSource::File,
            file: "/etc/azure-cni/pool.xml".into(),
            wireserver_url: literal("http://168.63.129.16/machine/plugins?comp=nmagent&type=getinterfaceinfov1"),
            imds_url: literal("http://169.254.169.254/metadata/instance/network?api-version=2021-02-01"),
            cns_url: literal("http://localhost:10090"),
            connect_timeout_secs: 2,
            request_timeout_secs: 10,
            refresh_min_secs: 4,
            refresh_max_secs: 1024,
            cooldown_secs: 30,
            reuse_cooling: false,
        }
    }
}
