//! Why a request has no usable response. No variant names the URL: the caller knows it.

use std::error::Error;
use std::time::Duration;

use hyper::StatusCode;

#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Refused, no route, or no such host. A retry may help.
    #[error("no connection: {0}")]
    Connect(std::io::Error),
    /// A retry may help.
    #[error("no connection within {} s", .limit.as_secs())]
    Unreachable { limit: Duration },
    /// A retry may help.
    #[error("no complete response within {} s", .limit.as_secs())]
    Slow { limit: Duration },
    /// The response ends early, or is not HTTP. A retry may help.
    #[error("the response is incomplete or not HTTP: {}", with_causes(.0))]
    Broken(#[from] hyper::Error),
    /// A retry helps for 408, 410, 429 and 5xx only.
    #[error("the response has status {0}")]
    Status(StatusCode),
    /// A retry does not help: configure the URL that the redirect leads to.
    #[error("the response has status {status}, and redirects are not followed (to {location:?})")]
    Redirect { status: StatusCode, location: String },
    /// A retry does not help.
    #[error("the response is longer than {max_bytes} bytes")]
    TooLarge { max_bytes: usize },
    /// A retry does not help.
    #[error("the response is not text in UTF-8")]
    NotText,
    /// A retry does not help.
    #[error("not a request: {0}")]
    Request(hyper::http::Error),
}

impl HttpError {
    /// Whether the same request may succeed a moment later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect(_) | Self::Unreachable { .. } | Self::Slow { .. } | Self::Broken(_) => true,
            // 410: instance metadata that is being updated (Azure, "Errors and debugging").
            Self::Status(status) => status.is_server_error() || matches!(status.as_u16(), 408 | 410 | 429),
            Self::Redirect { .. } | Self::TooLarge { .. } | Self::NotText | Self::Request(_) => false,
        }
    }

    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Status(StatusCode::NOT_FOUND))
    }
}

fn with_causes(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
