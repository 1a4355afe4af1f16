//! URLs of the services that the agent calls: `http` only, as the platform's are.

use std::fmt;
use std::str::FromStr;

use hyper::Uri;
use hyper::http::uri::Scheme;
use serde::{Deserialize, Serialize};

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
    /// The host's name or address; an IPv6 address without its brackets.
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

    /// `path` on the same server, below this URL's own path.
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
            // The rest is a colon and the port.
            Some(authority) if authority.as_str() != authority.host() && authority.port_u16().is_none() => {
                Err(invalid("has an invalid port"))
            }
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

/// Writes a server's root without the slash that `Uri` adds, so that it reads as configured.
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
    use proptest::prelude::*;

    use super::*;

    fn url(text: &str) -> HttpUrl {
        text.parse().unwrap()
    }

    #[test]
    fn host_port_and_path_are_recognised() {
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
    fn a_text_that_is_not_an_http_url_is_refused_with_its_problem() {
        for (text, problem) in [
            ("https://host/", "another scheme than http"),
            ("168.63.129.16", "has no scheme"),
            ("/path", "has no scheme"),
            ("http://", "is not a URL"),
            ("http://user:password@host/", "has a user name"),
            ("http://a b/", "is not a URL"),
            ("http://a:99999/", "has an invalid port"),
            ("http://a:/", "has an invalid port"),
            ("http://[::1]:x/", "has an invalid port"),
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
