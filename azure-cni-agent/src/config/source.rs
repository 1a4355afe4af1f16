//! `[pool]`: where pod addresses come from, how that is asked, and how soon a released address is handed out again.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use hyper::Uri;
use hyper::http::uri::Scheme;
use serde::{Deserialize, Serialize};

use super::ConfigError;
use super::check::within;

/// A day. Longer would hold addresses back for good.
const COOLDOWN_SECS: (u64, u64) = (0, 86_400);
/// A minute: whoever waits for longer waits for nothing.
const TIMEOUT_SECS: (u64, u64) = (1, 60);
/// A day. The least pause keeps a source that is down from being asked without end.
const REFRESH_SECS: (u64, u64) = (1, 86_400);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PoolConfig {
    pub source: PoolSource,
    pub file: PathBuf,
    pub wireserver_url: HttpUrl,
    pub imds_url: HttpUrl,
    /// Of the server; the paths of the calls are added.
    pub cns_url: HttpUrl,
    pub connect_timeout_secs: u64,
    pub request_timeout_secs: u64,
    pub refresh_min_secs: u64,
    pub refresh_max_secs: u64,
    pub cooldown_secs: u64,
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

/// An absolute URL of the scheme `http` with a host and without user or password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HttpUrl(Uri);

/// A retry does not help: the text has to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{url:?} {problem}; a URL is written as in \"http://168.63.129.16/path\"")]
pub struct InvalidUrl {
    url: String,
    problem: &'static str,
}

impl HttpUrl {
    /// A host's name or address, the latter without the brackets of IPv6.
    pub fn host(&self) -> &str {
        self.0.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']')
    }

    pub fn port(&self) -> u16 {
        self.0.port_u16().unwrap_or(80)
    }

    /// Host and port as written, for the request's header.
    pub fn authority(&self) -> &str {
        self.0.authority().map_or("", |authority| authority.as_str())
    }

    /// Path and query, for the request's first line.
    pub fn path(&self) -> &str {
        self.0.path_and_query().map_or("/", |path| path.as_str())
    }

    /// The same server's `path`, below the path that this one has.
    pub fn join(&self, path: &str) -> Result<Self, InvalidUrl> {
        format!("http://{}{}{path}", self.authority(), self.0.path().trim_end_matches('/')).parse()
    }
}

impl FromStr for HttpUrl {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let invalid = |problem| InvalidUrl { url: text.to_owned(), problem };
        let uri: Uri = text.parse().map_err(|_| invalid("is not a URL"))?;
        match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => {}
            Some(_) => return Err(invalid("has another scheme than http")),
            None => return Err(invalid("has no scheme")),
        }
        match uri.authority() {
            Some(authority) if authority.as_str().contains('@') => Err(invalid("has a user name")),
            Some(authority) if authority.host().is_empty() => Err(invalid("has no host")),
            Some(_) => Ok(Self(uri)),
            None => Err(invalid("has no host")),
        }
    }
}

impl TryFrom<String> for HttpUrl {
    type Error = InvalidUrl;

    fn try_from(text: String) -> Result<Self, InvalidUrl> {
        text.parse()
    }
}

impl From<HttpUrl> for String {
    fn from(url: HttpUrl) -> Self {
        url.to_string()
    }
}

/// A server's root without the slash that `Uri` adds, so that what was written is what is shown.
impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path() {
            "/" => write!(f, "http://{}", self.authority()),
            path => write!(f, "http://{}{path}", self.authority()),
        }
    }
}

impl fmt::Debug for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn url(text: &str) -> HttpUrl {
        text.parse().unwrap()
    }

    #[test]
    fn host_port_and_path_are_told_apart() {
        for (text, host, port, path) in [
            ("http://168.63.129.16/a/b?c=d", "168.63.129.16", 80, "/a/b?c=d"),
            ("http://localhost:10090", "localhost", 10090, "/"),
            ("http://[::1]:8080/x", "::1", 8080, "/x"),
        ] {
            let url = url(text);
            assert_eq!((url.host(), url.port(), url.path()), (host, port, path), "{text}");
            assert_eq!(url.to_string(), text);
        }
    }

    #[test]
    fn a_path_is_joined_below_that_of_the_server() {
        let joined = |base: &str| url(base).join("/network/x").unwrap().to_string();
        assert_eq!(joined("http://localhost:10090"), "http://localhost:10090/network/x");
        assert_eq!(joined("http://localhost/cns/"), "http://localhost/cns/network/x");
    }

    #[test]
    fn what_is_no_url_of_http_is_refused_with_its_problem() {
        for (text, problem) in [
            ("https://host/", "another scheme than http"),
            ("168.63.129.16", "has no scheme"),
            ("/path", "has no scheme"),
            ("http://", "is not a URL"),
            ("http://user:password@host/", "has a user name"),
            ("http://a b/", "is not a URL"),
            ("", "is not a URL"),
        ] {
            let error = text.parse::<HttpUrl>().unwrap_err().to_string();
            assert!(error.contains(problem), "{text:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "(http://)?[\\PC]{0,16}") {
            if let Ok(url) = text.parse::<HttpUrl>() {
                let _ = (url.host(), url.port(), url.path(), url.join("/x"));
            }
        }
    }
}
