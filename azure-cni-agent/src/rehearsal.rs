//! What each pod's start needs of the kernel, tried once when the agent starts: a veth, and filters at it. All of it may be in modules
//! that a node does not have or may not load any more.
//!
//! The rule: an agent that says it is ready can make pods. It is tried in a network namespace that nobody else sees and that ends with
//! the attempt.

use azure_cni_datapath::{Datapath, Hook};
use nix::sched::{CloneFlags, unshare};

use crate::net::{NetError, Netlink, Netns, NetnsError, VethSpec};
use crate::programs::{self, Interface, ProgramError};

#[derive(Debug, thiserror::Error)]
pub enum RehearsalError {
    #[error("a network namespace: {0}")]
    Namespace(std::io::Error),
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// Without the module, the kernel knows no such kind of interface.
    #[error("{0}; is the kernel's module veth there, and may it be loaded?")]
    Veth(NetError),
    #[error("the veth that was just made is gone")]
    NoVeth,
    #[error("{0}; are the kernel's modules sch_ingress and cls_bpf there, and may they be loaded?")]
    Attach(ProgramError),
}

/// The name that the host's end of a pod's veth could have; no pod's is so short.
const HOST_NAME: &str = "azvtry";

/// Makes a veth and attaches the programs of a pod to it. Blocks the thread for as long as that takes: milliseconds.
pub fn attach_a_pod(datapath: &Datapath) -> Result<(), RehearsalError> {
    // Programs are attached in the namespace of the calling thread.
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).map_err(|error| RehearsalError::Namespace(error.into()))?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map_err(RehearsalError::Namespace)?.block_on(attach_here(datapath))
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

async fn attach_here(datapath: &Datapath) -> Result<(), RehearsalError> {
    let netlink = Netlink::here()?;
    let veth = VethSpec {
        host_name: HOST_NAME,
        host_mac: [2, 0, 0, 0, 0, 1],
        host_group: 0,
        pod_name: "eth0",
        pod_mac: [2, 0, 0, 0, 0, 2],
        pod_netns: &Netns::of_thread()?,
        mtu: 1500,
    };
    netlink.create_veth(&veth).await.map_err(RehearsalError::Veth)?;
    let link = netlink.link(HOST_NAME).await.map_err(RehearsalError::Veth)?.ok_or(RehearsalError::NoVeth)?;
    for hook in Hook::ENDPOINT {
        let interface = Interface { name: HOST_NAME, index: link.index };
        let attached = programs::ensure_attached(&netlink, datapath, hook, interface).await;
        // By a link, the program would be pinned.
        datapath.detach(hook, HOST_NAME).map_err(|error| RehearsalError::Attach(error.into()))?;
        attached.map_err(RehearsalError::Attach)?;
    }
    Ok(())
}
