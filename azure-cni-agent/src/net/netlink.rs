//! The netlink socket that all exchanges use. The files beside this one add the exchanges for each kind of object.

use std::sync::Arc;

use futures::TryStreamExt;
use tokio::sync::Mutex;

use super::netns::{Netns, NetnsError};

/// A netlink socket in one namespace.
#[derive(Debug, Clone)]
pub struct Netlink {
    pub(super) handle: rtnetlink::Handle,
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

    /// Calls `visit` with every element of a dump. `request` starts the dump once no other one runs.
    pub(super) async fn dump<T, S>(
        &self,
        request: impl FnOnce() -> S,
        mut visit: impl FnMut(&T),
    ) -> Result<(), rtnetlink::Error>
    where
        S: futures::Stream<Item = Result<T, rtnetlink::Error>>,
    {
        let _only_dump = self.dumping.lock().await;
        let mut stream = std::pin::pin!(request());
        while let Some(item) = stream.try_next().await? {
            visit(&item);
        }
        Ok(())
    }
}
