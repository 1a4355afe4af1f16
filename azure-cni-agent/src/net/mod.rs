//! Links, addresses, routes, neighbours and namespaces. Nothing outside this module knows netlink.
//!
//! The rule: a socket belongs to the namespace it was made in. So namespaces are entered on short-lived threads only, to
//! make a socket there; all waiting happens on the runtime's own threads, which never change namespace.

mod link;
mod netns;
mod route;
pub mod sysctl;

pub use link::{Link, VethSpec};
pub use netns::{Netns, NetnsError, NetnsId};
pub use route::{NeighbourEntry, RouteEntry};

use futures::TryStreamExt;

/// A failed exchange with the kernel. A retry helps only where the cause is another's interface or route in the way.
#[derive(Debug, thiserror::Error)]
#[error("{action}: {source}")]
pub struct NetError {
    action: String,
    source: std::io::Error,
}

impl NetError {
    fn new(action: impl Into<String>, error: rtnetlink::Error) -> Self {
        let source = match error {
            rtnetlink::Error::NetlinkError(message) => message.to_io(),
            other => std::io::Error::other(other),
        };
        Self { action: action.into(), source }
    }

    /// What was to be removed or looked at is not there.
    pub fn is_absent(&self) -> bool {
        matches!(self.source.raw_os_error(), Some(libc::ENODEV | libc::ENOENT | libc::ESRCH | libc::EADDRNOTAVAIL))
    }

    /// What was to be made is there already.
    pub fn exists(&self) -> bool {
        self.source.raw_os_error() == Some(libc::EEXIST)
    }
}

/// A netlink socket in one namespace.
#[derive(Debug, Clone)]
pub struct Netlink {
    handle: rtnetlink::Handle,
}

impl Netlink {
    /// In the namespace of the calling thread.
    pub fn here() -> Result<Self, NetnsError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(NetnsError::Socket)?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// In another namespace.
    pub async fn inside(netns: &Netns) -> Result<Self, NetnsError> {
        netns.run(Self::here).await?
    }
}

/// The first element of a dump that satisfies a condition.
async fn find<T>(
    stream: impl futures::Stream<Item = Result<T, rtnetlink::Error>>,
    mut condition: impl FnMut(&T) -> bool,
) -> Result<Option<T>, rtnetlink::Error> {
    let mut stream = std::pin::pin!(stream);
    let mut found = None;
    // To the end, so that no answer is left in the socket.
    while let Some(item) = stream.try_next().await? {
        if found.is_none() && condition(&item) {
            found = Some(item);
        }
    }
    Ok(found)
}
