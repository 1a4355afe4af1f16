//! One agent for each network namespace: two would give out the same addresses and remove each other's interfaces, whatever
//! directories they have.
//!
//! The lock is an abstract Unix socket, because its name belongs to the network namespace, and it goes with the process. Any
//! process may take such a name, so a holder counts only if it is root, as every agent is.

use std::io::{Error, ErrorKind};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

const NAME: &[u8] = b"azure-cni-ebpf/agent";

/// Held for the life of the process.
#[derive(Debug)]
pub struct OnlyAgent {
    _held: Option<UnixListener>,
}

#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// A retry helps once the other agent has ended.
    #[error(
        "another agent, process {process}, works in this network namespace: stop it. Each namespace has one agent, whatever its \
         socket and directories"
    )]
    Taken { process: i32 },
    #[error("the lock of the network namespace: {0}")]
    Io(#[from] Error),
}

/// Claims the calling thread's namespace. Call it before you touch anything that another agent works with.
pub fn claim() -> Result<OnlyAgent, ClaimError> {
    let name = SocketAddr::from_abstract_name(NAME)?;
    // The holder may end between the two.
    for _ in 0..3 {
        match UnixListener::bind_addr(&name) {
            Ok(held) => return Ok(OnlyAgent { _held: Some(held) }),
            Err(error) if error.kind() != ErrorKind::AddrInUse => return Err(error.into()),
            Err(_) => {}
        }
        let Ok(other) = UnixStream::connect_addr(&name) else { continue };
        let holder = getsockopt(&other, PeerCredentials).map_err(Error::from)?;
        if holder.uid() == 0 {
            return Err(ClaimError::Taken { process: holder.pid() });
        }
        tracing::error!(
            process = holder.pid(),
            user = holder.uid(),
            "a process that is no agent holds the lock of the network namespace: going on without it"
        );
        return Ok(OnlyAgent { _held: None });
    }
    Err(Error::from(ErrorKind::AddrInUse).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In a namespace of its own, as an agent may run on this machine.
    #[test]
    fn one_claim_is_held_at_a_time_and_the_second_names_the_process() {
        let claims = || {
            if nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).is_err() {
                return eprintln!("not root: not tested");
            }
            let first = claim().unwrap();
            let refused = claim().unwrap_err().to_string();
            assert!(refused.contains(&std::process::id().to_string()), "{refused}");
            drop(first);
            claim().unwrap();
        };
        std::thread::spawn(claims).join().unwrap();
    }
}
