//! `[pool]`: where pod addresses come from, how the agent reads them, and how soon a released address is leased again.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::bounds::within;
use super::error::ConfigError;
use super::url::HttpUrl;

/// A day.
const COOLDOWN_SECS: (u64, u64) = (0, 86_400);
/// A minute: a server that needs longer is down.
const TIMEOUT_SECS: (u64, u64) = (1, 60);
/// At least a second, so that the agent does not flood a source that is down; at most a day.
const REFRESH_SECS: (u64, u64) = (1, 86_400);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PoolConfig {
    /// Where the agent gets the pool from: `wireserver`, `imds`, `cns`, `file`, or `auto` for the first of wire server, instance
    /// metadata and file that gives one. [ipam.md](ipam.md) describes each, and how the agent polls it.
    #[cfg_attr(test, schemars(with = "String"))]
    pub source: PoolSource,
    /// The file, for `source = "file"` and `"auto"`: the wire server's XML or the JSON of instance metadata; the agent recognises the
    /// form by the content. It reads the file again every `refresh_min_secs`.
    pub file: PathBuf,
    /// URL of the wire server's document.
    #[cfg_attr(test, schemars(with = "String"))]
    pub wireserver_url: HttpUrl,
    /// URL of instance metadata's document.
    #[cfg_attr(test, schemars(with = "String"))]
    pub imds_url: HttpUrl,
    /// URL of the azure-cns server; the agent adds the paths of the calls.
    #[cfg_attr(test, schemars(with = "String"))]
    pub cns_url: HttpUrl,
    /// How long a server may take to accept a connection. 1 to 60.
    pub connect_timeout_secs: u64,
    /// How long one request may take, including its response. 1 to 60.
    pub request_timeout_secs: u64,
    /// The pause before the next poll of the source after a change, after an error, and while the pool has no free address.
    /// 1 to 86400.
    pub refresh_min_secs: u64,
    /// The longest pause between polls: while nothing changes, each is twice the one before. `refresh_min_secs` to 86400.
    pub refresh_max_secs: u64,
    /// For how many seconds a released address is not leased again, so that packets still on their way to the old pod do
    /// not reach a new one. 0 to 86400.
    pub cooldown_secs: u64,
    /// When every free address was released less than `cooldown_secs` ago: `true` leases the one released first;
    /// `false` fails the pod's start with CNI error 11 (try again later), which says in how many seconds.
    pub reuse_cooling: bool,
}

/// Where the pool comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PoolSource {
    /// On the platform its wire server or instance metadata, elsewhere these or a file: whichever of them gives a pool first.
    Auto,
    /// A file in the wire server's or in instance metadata's form.
    File,
    /// The platform's wire server.
    WireServer,
    /// The platform's instance metadata.
    Imds,
    /// azure-cns, which gives each attachment its addresses.
    Cns,
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
            source: PoolSource::Auto,
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
