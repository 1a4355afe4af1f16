//! Step: fragments. Only a packet's first fragment has ports; its later ones are found by what all have in common.
//!
//! The rule: later fragments follow the first. One that comes before it is put back into the queue it came from a few
//! times, which lets those pass that arrived with it; `docs/adr/0005` has the bounds.

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use azure_cni_common::fragments::{FragmentKey, FragmentPorts};

use crate::packet::{Headers, Packet, Part};
use crate::tables::{Tables, now_ns};

/// Remembers the ports of a first fragment, and gives them to later ones. To be called for fragments only.
#[inline(never)]
pub fn find_ports<F: Headers + Tables>(packet: &mut Packet<F>) {
    let key = key_of(packet);
    let now_ns = now_ns();
    if packet.part == Part::First {
        let ports = FragmentPorts::known(packet.tuple.source_port, packet.tuple.destination_port, now_ns);
        let _ = F::fragments().insert(&key, &ports, u64::from(BPF_ANY));
        return;
    }
    // SAFETY: a value that becomes another packet's while it is read gives ports that hold no flow.
    if let Some(ports) = unsafe { F::fragments().get(&key) }
        && ports.are_known(now_ns)
    {
        packet.follows(ports.source_port, ports.destination_port);
    }
}

/// Whether a later fragment whose first has not come may be put back once more; notes that it is. This bound holds whatever
/// becomes of the packet's mark: who else looks at the packet may clear that, and knows nothing of this table.
#[inline(never)]
pub fn may_wait<F: Headers + Tables>(packet: &Packet<F>) -> bool {
    let key = key_of(packet);
    let now_ns = now_ns();
    let Some(entry) = F::fragments().get_ptr_mut(&key) else {
        let _ = F::fragments().insert(&key, &FragmentPorts::awaited(now_ns), u64::from(BPF_NOEXIST));
        return true;
    };
    // SAFETY: map values live as long as the program runs. One that has become another packet's costs that one a look.
    match unsafe { entry.read() }.wait(now_ns) {
        Some(ports) => {
            // SAFETY: as above.
            unsafe { entry.write(ports) };
            true
        }
        None => false,
    }
}

#[inline(always)]
fn key_of<F: Headers>(packet: &Packet<F>) -> FragmentKey<F::Address> {
    FragmentKey {
        source: packet.tuple.source,
        destination: packet.tuple.destination,
        identification: packet.identification,
        protocol: u32::from(packet.tuple.protocol),
    }
}
