//! Links, addresses, routes, neighbours and namespaces. Nothing outside this module knows netlink.
//!
//! The rule: a socket belongs to the namespace it was made in. So namespaces are entered on short-lived threads only, to
//! make a socket there; all waiting happens on the runtime's own threads, which never change namespace.

mod filters;
mod link;
mod netns;
mod next_hops;
mod route;
mod sockets;
pub mod sysctl;

use std::sync::Arc;

use futures::TryStreamExt;
pub use link::{Link, VethSpec};
pub use netns::{Netns, NetnsError, NetnsId};
pub use next_hops::{NextHop, Via};
pub use route::{NeighbourEntry, RouteEntry};
pub use sockets::{HeldPort, SocketsError, held_ports};
use tokio::sync::Mutex;

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

    /// The result of an exchange that was to do `action`.
    fn of<T>(action: impl Into<String>, result: Result<T, rtnetlink::Error>) -> Result<T, Self> {
        result.map_err(|error| Self::new(action, error))
    }

    /// What was to be removed or looked at is not there.
    pub fn is_absent(&self) -> bool {
        matches!(self.source.raw_os_error(), Some(libc::ENODEV | libc::ENOENT | libc::ESRCH | libc::EADDRNOTAVAIL))
    }

    /// The kernel does not know what the request speaks of, such as a qdisc that the interface has not.
    pub fn is_invalid(&self) -> bool {
        self.source.raw_os_error() == Some(libc::EINVAL)
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
    /// A socket serves one dump at a time and refuses another as busy (net/netlink/af_netlink.c, __netlink_dump_start).
    dumping: Arc<Mutex<()>>,
}

impl Netlink {
    /// In the namespace of the calling thread.
    pub fn here() -> Result<Self, NetnsError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(NetnsError::Socket)?;
        tokio::spawn(connection);
        Ok(Self { handle, dumping: Arc::default() })
    }

    /// In another namespace.
    pub async fn inside(netns: &Netns) -> Result<Self, NetnsError> {
        netns.run(Self::here).await?
    }

    /// Shows every element of a dump to `visit`. `request` asks for it once it is its turn.
    async fn dump<T, S>(&self, request: impl FnOnce() -> S, mut visit: impl FnMut(&T)) -> Result<(), rtnetlink::Error>
    where
        S: futures::Stream<Item = Result<T, rtnetlink::Error>>,
    {
        let _turn = self.dumping.lock().await;
        let mut stream = std::pin::pin!(request());
        while let Some(item) = stream.try_next().await? {
            visit(&item);
        }
        Ok(())
    }
}
