//! Step: fragments. Only a packet's first fragment has ports; its later ones are found by what all have in common.
//!
//! The rule: later fragments follow the first. One that comes before it is put back into the queue it came from a few
//! times, which lets those pass that arrived with it; `docs/adr/0005` has the bound.

use aya_ebpf::bindings::BPF_ANY;
use azure_cni_common::conntrack::NS_PER_SEC;
use azure_cni_common::fragments::{FragmentKey, FragmentPorts};

use crate::packet::{Headers, Packet, Part};
use crate::tables::{Tables, now_ns};

/// Fragments of one packet are sent in one go; identifications come round again (RFC 6864 section 4).
const LIFETIME_NS: u64 = 2 * NS_PER_SEC;

/// Remembers the ports of a first fragment, and gives them to later ones. To be called for fragments only.
#[inline(never)]
pub fn find_ports<F: Headers + Tables>(packet: &mut Packet<F>) {
    let key = FragmentKey {
        source: packet.tuple.source,
        destination: packet.tuple.destination,
        identification: packet.identification,
        protocol: u32::from(packet.tuple.protocol),
    };
    let now_ns = now_ns();
    if packet.part == Part::First {
        let ports = FragmentPorts {
            expires_ns: now_ns + LIFETIME_NS,
            source_port: packet.tuple.source_port,
            destination_port: packet.tuple.destination_port,
            pad: 0,
        };
        let _ = F::fragments().insert(&key, &ports, u64::from(BPF_ANY));
        return;
    }
    // SAFETY: a value that becomes another packet's while it is read gives ports that hold no flow.
    if let Some(ports) = unsafe { F::fragments().get(&key) }
        && now_ns < ports.expires_ns
    {
        packet.follows(ports.source_port, ports.destination_port);
    }
}
