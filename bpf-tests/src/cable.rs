//! Frames through a real veth, for what BPF_PROG_TEST_RUN cannot make: tags taken off by the kernel, frames cut short in
//! the IP header, and what the host's stack does afterwards.

use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::Duration;

use azure_cni_common::drop_reason::DropReason;
use azure_cni_datapath::Hook;

use crate::frame::Frame;
use crate::node::{AZV_MAC, ip, packet_socket};
use crate::rig::Rig;

/// The pod's end of a veth whose other end runs `from_endpoint`, and a socket of the host.
pub struct Cable<'a> {
    rig: &'a Rig,
    pod_end: OwnedFd,
    host: UdpSocket,
}

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The host's socket has received it.
    Delivered,
    Dropped(DropReason),
    Vanished,
}

/// Far longer than a frame through a veth takes.
const PATIENCE: Duration = Duration::from_millis(300);

impl Rig {
    /// Plugs in pod A. The host listens at this UDP port of the node's address.
    pub fn plug_in_pod_a(&mut self, port: u16) -> Cable<'_> {
        self.is_used_up = true;
        let node = format!("{}/32", Rig::NODE);
        // What the kernel sends of its own would be dropped and counted too.
        std::fs::write("/proc/sys/net/ipv6/conf/poda/disable_ipv6", "1").expect("the namespace is the test's own");
        for arguments in [
            &["link", "set", "lo", "up"][..],
            &["address", "add", &node, "dev", "lo"],
            &["link", "set", "azva", "up"],
            &["link", "set", "poda", "up"],
        ] {
            ip(arguments);
        }
        // The programs alone are to keep foreign sources out.
        for interface in ["all", "azva"] {
            let path = format!("/proc/sys/net/ipv4/conf/{interface}/rp_filter");
            std::fs::write(path, "0").expect("the namespace is the test's own");
        }
        self.datapath().attach(Hook::FromEndpoint, "azva").unwrap();
        let host = UdpSocket::bind((Rig::NODE, port)).expect("the node has this address");
        host.set_read_timeout(Some(PATIENCE)).unwrap();
        Cable { rig: self, pod_end: packet_socket("poda"), host }
    }
}

impl Cable<'_> {
    /// Pod A sends exactly these bytes, to the MAC of its host veth unless the frame names another.
    pub fn send(&self, frame: &Frame) -> Fate {
        let before = self.rig.drop_counts();
        let bytes = frame.arriving_at(AZV_MAC);
        let sent = nix::unistd::write(&self.pod_end, &bytes).expect("the veth is up");
        assert_eq!(sent, bytes.len());
        if self.host.recv_from(&mut [0; 2048]).is_ok() {
            return Fate::Delivered;
        }
        let after = self.rig.drop_counts();
        let moved = (0..after.len()).find(|index| after[*index] > before[*index]);
        moved.map_or(Fate::Vanished, |index| Fate::Dropped(DropReason::ALL[index]))
    }

    pub fn host(&self) -> (Ipv4Addr, u16) {
        (Rig::NODE, self.host.local_addr().unwrap().port())
    }
}
