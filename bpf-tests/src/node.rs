//! Namespaces with loaded programs, handed from test to test.
//!
//! Loading costs the verifier seconds, so a node whose test has passed is emptied and used again by the next test that
//! wants the same constants. Everything it consists of goes away with the process, however that ends.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use azure_cni_datapath::{AttachModes, Constants, Datapath, Settings};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// Device MAC addresses: frames to them are for this host (net/ethernet/eth.c, eth_type_trans).
pub const AZV_MAC: [u8; 6] = [0xaa; 6];
pub const NIC_MAC: [u8; 6] = [0x00, 0x0d, 0x3a, 0xf9, 0xdc, 0xa6];

/// Host side, other side, MAC of the host side.
pub(crate) const VETHS: [(&str, &str, [u8; 6]); 3] =
    [("azva", "poda", AZV_MAC), ("azvb", "podb", AZV_MAC), ("uplink", "fabric", NIC_MAC)];

/// Where the node's own bpffs is mounted, in its own mount namespace.
const BPFFS: &str = "/sys/fs/bpf";

pub(crate) struct Node {
    /// Absent between one agent and the next.
    pub datapath: Option<Datapath>,
    pub settings: Settings,
    network: File,
    mounts: File,
}

static IDLE: Mutex<Vec<Node>> = Mutex::new(Vec::new());

impl Node {
    /// Puts the calling thread into the namespaces of a node with these constants, `uplink_ifindex` excepted.
    pub fn enter(object: &'static [u8], constants: &Constants, max_flows: u32, max_half_open: u32) -> Self {
        let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = idle.iter().position(|node| {
            let uplink_ifindex = node.settings.constants.uplink_ifindex;
            node.settings.constants == Constants { uplink_ifindex, ..constants.clone() }
                && (node.settings.max_flows, node.settings.max_half_open) == (max_flows, max_half_open)
                && std::ptr::eq(node.settings.object, object)
        });
        let Some(index) = fits else {
            drop(idle);
            return Self::build(object, constants.clone(), max_flows, max_half_open);
        };
        let node = idle.swap_remove(index);
        // A thread may change its mount namespace only if it shares its working directory with none.
        unshare(CloneFlags::CLONE_FS).expect("a working directory of the thread's own");
        setns(&node.mounts, CloneFlags::CLONE_NEWNS).expect("the node's mounts");
        setns(&node.network, CloneFlags::CLONE_NEWNET).expect("the node's network");
        node
    }

    /// Leaves the node for another test.
    pub fn retire(self) {
        IDLE.lock().unwrap_or_else(PoisonError::into_inner).push(self);
    }

    /// Panics with what is missing where programs cannot be loaded: a test that cannot run must not pass.
    fn build(object: &'static [u8], mut constants: Constants, max_flows: u32, max_half_open: u32) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "these tests load eBPF programs: run them as root");
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("namespaces of the test's own");
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
            .expect("private mounts");
        mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), None::<&str>).expect("a bpffs of the test's own");
        for (name, peer, mac) in VETHS {
            let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
            ip(&["link", "add", name, "address", &mac, "type", "veth", "peer", "name", peer]);
        }
        constants.uplink_ifindex = ifindex("uplink");
        let dir = PathBuf::from(BPFFS).join("azure-cni");
        let settings = Settings {
            object,
            dir,
            constants,
            max_flows,
            max_half_open,
            max_routes: 65_536,
            attach: AttachModes::detect().expect("the right to ask"),
        };
        let datapath = Datapath::open(&settings).unwrap_or_else(|error| panic!("{error:?}"));
        let namespace = |kind| File::open(format!("/proc/thread-self/ns/{kind}")).expect("a namespace has a file");
        Self { datapath: Some(datapath), settings, network: namespace("net"), mounts: namespace("mnt") }
    }
}

pub(crate) fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("iproute2 is installed");
    assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

pub fn ifindex(name: &str) -> u32 {
    nix::net::if_::if_nametoindex(name).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Sends and receives whole frames at an interface.
pub(crate) fn packet_socket(interface: &str) -> OwnedFd {
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), None).expect("CAP_NET_RAW");
    // SAFETY: an address made of integers, for which zero is a value.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_ifindex = ifindex(interface) as i32;
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the pointer is to an address of the length named, which lives longer than the call.
    let result = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    assert_eq!(result, 0, "binding to {interface}: {}", std::io::Error::last_os_error());
    socket
}
