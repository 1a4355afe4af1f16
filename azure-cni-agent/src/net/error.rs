//! Why an exchange with the kernel failed: what was being done, and the kernel's error number.

/// A failed exchange with the kernel. A retry helps only if the interface or route of another program was in the way.
#[derive(Debug, thiserror::Error)]
#[error("{action}: {source}")]
pub struct NetError {
    action: String,
    source: std::io::Error,
}

impl NetError {
    pub(super) fn new(action: impl Into<String>, error: rtnetlink::Error) -> Self {
        let source = match error {
            rtnetlink::Error::NetlinkError(message) => message.to_io(),
            other => std::io::Error::other(other),
        };
        Self { action: action.into(), source }
    }

    /// The result of an exchange whose purpose was `action`.
    pub(super) fn of<T>(action: impl Into<String>, result: Result<T, rtnetlink::Error>) -> Result<T, Self> {
        result.map_err(|error| Self::new(action, error))
    }

    /// The object to remove or to read does not exist.
    pub fn is_absent(&self) -> bool {
        matches!(self.source.raw_os_error(), Some(libc::ENODEV | libc::ENOENT | libc::ESRCH | libc::EADDRNOTAVAIL))
    }

    /// The kernel does not know what the request names, such as a qdisc that the interface does not have.
    pub fn is_invalid(&self) -> bool {
        self.source.raw_os_error() == Some(libc::EINVAL)
    }

    /// The object to make exists already.
    pub fn exists(&self) -> bool {
        self.source.raw_os_error() == Some(libc::EEXIST)
    }
}
