//! Programs beside ours, through which a packet that is put back passes too.

use std::fs;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use aya::programs::SchedClassifier;
use aya::programs::links::LinkOrder;
use aya::programs::tc::{NlOptions, TcAttachOptions, TcAttachType};
use azure_cni_datapath::{AttachMode, AttachModes, load_instructions};

use crate::node::{NIC_MAC, ip, packet_socket};
use crate::rig::Rig;
use crate::{AZV_MAC, Frame};

impl Rig {
    /// The node has its addresses, and its interfaces are up.
    pub fn power_up(&mut self) {
        self.is_used_up = true;
        let (node, node6) = (format!("{}/32", Rig::NODE), format!("{}/128", Rig::NODE6));
        ip(&["link", "set", "lo", "up"]);
        ip(&["address", "add", &node, "dev", "lo"]);
        ip(&["address", "add", &node6, "dev", "lo", "nodad"]);
        for interface in ["azva", "poda", "uplink", "fabric"] {
            ip(&["link", "set", interface, "up"]);
        }
    }

    /// A frame that comes in at the uplink by the cable.
    pub fn send_from_fabric(&self, frame: &Frame) {
        send("fabric", &frame.arriving_at(NIC_MAC));
    }

    /// A frame that pod A sends.
    pub fn send_from_pod_a(&self, frame: &Frame) {
        send("poda", &frame.arriving_at(AZV_MAC));
    }

    /// A program that clears every packet's mark, in front of all others.
    pub fn clear_marks_at(&self, interface: &str) {
        let mut program = SchedClassifier::from_pin(load_mark_clearer()).expect("just pinned");
        let options = match AttachModes::detect().expect("the right to ask").uplink {
            AttachMode::Tcx => TcAttachOptions::TcxOrder(LinkOrder::first()),
            AttachMode::Clsact => TcAttachOptions::Netlink(NlOptions { priority: 1, ..NlOptions::default() }),
        };
        let link =
            program.attach_with_options(interface, TcAttachType::Ingress, options).expect("nobody is in its place");
        // It stays as long as the interface.
        std::mem::forget(program.take_link(link).expect("just attached"));
    }

    /// How often the node's stack was given a fragment to put together, of both families.
    pub fn fragments_taken_in(&self) -> u64 {
        let file =
            |name: &str| fs::read_to_string(format!("/proc/thread-self/net/{name}")).expect("a namespace has it");
        let v4 = file("snmp");
        let mut rows = v4.lines().filter_map(|line| line.strip_prefix("Ip: "));
        let (names, values) = (rows.next().expect("names"), rows.next().expect("values"));
        let at = names.split(' ').position(|name| name == "ReasmReqds").expect("a counter of the kernel");
        let v4: u64 = values.split(' ').nth(at).and_then(|value| value.parse().ok()).expect("a number");
        let v6 = file("snmp6");
        let row = v6.lines().find(|line| line.starts_with("Ip6ReasmReqds")).expect("a counter of the kernel");
        v4 + row.split_whitespace().last().and_then(|value| value.parse::<u64>().ok()).expect("a number")
    }
}

fn send(interface: &str, bytes: &[u8]) {
    let sent = nix::unistd::write(packet_socket(interface), bytes).expect("the veth is up");
    assert_eq!(sent, bytes.len());
}

/// `union bpf_attr` as BPF_OBJ_PIN reads it.
#[repr(C)]
struct PinAttr {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

const BPF_OBJ_PIN: libc::c_long = 6;

/// `r2 = 0; skb->mark = r2; r0 = TCX_NEXT; exit`.
const CLEAR_MARK: [u64; 4] = [0x02b7, 0x0008_2163, 0xffff_ffff_0000_00b7, 0x95];

fn load_mark_clearer() -> PathBuf {
    let path = PathBuf::from("/sys/fs/bpf/clearer");
    let program = load_instructions("clearer", &CLEAR_MARK).expect("the kernel takes it");
    let pathname = c"/sys/fs/bpf/clearer";
    let attr = PinAttr { pathname: pathname.as_ptr() as u64, bpf_fd: program.as_raw_fd() as u32, file_flags: 0 };
    // SAFETY: every address in `attr` is of memory that lives longer than the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, BPF_OBJ_PIN, &raw const attr, size_of::<PinAttr>()) };
    assert_eq!(result, 0, "pinning: {}", std::io::Error::last_os_error());
    path
}
