//! The kernel's messages about changes of nftables' rules.
//!
//! The rule: what a message says is not read. kube-proxy changes thousands of rules at once, and the rules themselves are the truth.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket};
use tokio::io::unix::AsyncFd;

/// NFNLGRP_NFTABLES, as a bit (include/uapi/linux/netfilter/nfnetlink.h).
const GROUP: u32 = 1 << (7 - 1);
/// Messages that are taken away before a change is told, whether or not there are more.
const AT_ONCE: usize = 10_000;

#[derive(Debug)]
pub struct RuleChanges {
    socket: AsyncFd<OwnedFd>,
}

impl RuleChanges {
    /// Those of the calling thread's namespace. Fails on a kernel without netfilter's netlink.
    pub fn subscribe() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkNetFilter)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUP))?;
        // SAFETY: the descriptor is open, and its owner is the registration itself.
        Ok(Self { socket: unsafe { AsyncFd::register(socket) }? })
    }

    /// Returns once there was a change since the last call, or messages were lost.
    pub async fn changed(&self) -> io::Result<()> {
        loop {
            let mut ready = self.socket.readable().await?;
            let mut taken = 0;
            while taken < AT_ONCE {
                // The rest of a message that has no room is thrown away.
                match recv(self.socket.as_raw_fd(), &mut [0], MsgFlags::empty()) {
                    Ok(_) | Err(Errno::ENOBUFS) => taken += 1,
                    Err(Errno::EAGAIN) => {
                        ready.clear_ready();
                        break;
                    }
                    Err(Errno::EINTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            if taken > 0 {
                return Ok(());
            }
        }
    }
}
