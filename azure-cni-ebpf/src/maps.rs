//! All maps and load-time constants.
//!
//! What is known when the programs are loaded is a read-only global, which the verifier folds into the code; what changes
//! later is a map. The agent pins the maps; sizes are set at load time from its configuration.

use aya_ebpf::{
    Global,
    bindings::BPF_F_NO_PREALLOC,
    macros::map,
    maps::{HashMap, LpmTrie, LruHashMap, PerCpuArray, lpm_trie::Key},
};
use azure_cni_common::conntrack::Timeouts;
use azure_cni_common::drop_reason::DropReason;
use azure_cni_common::family::{Family, Ipv4, Ipv6, V4};
use azure_cni_common::flow::{Flow, FlowKey, Tuple};
use azure_cni_common::layout::{Endpoint, NatHolder, NatKey, RouteClass};
use azure_cni_common::next_hop::Services;
use azure_cni_common::platform;
use azure_cni_common::snat::PortRange;

#[map]
static ENDPOINTS4: HashMap<Ipv4, Endpoint> = HashMap::pinned(1024, 0);
#[map]
static ENDPOINTS6: HashMap<Ipv6, Endpoint> = HashMap::pinned(1024, 0);

/// Destinations that are not the Internet.
#[map]
static ROUTES4: LpmTrie<Ipv4, RouteClass> = LpmTrie::pinned(4096, BPF_F_NO_PREALLOC);
#[map]
static ROUTES6: LpmTrie<Ipv6, RouteClass> = LpmTrie::pinned(4096, BPF_F_NO_PREALLOC);

/// The connection table. Preallocated: a new flow costs no allocation, and full means refused.
#[map]
static FLOWS4: HashMap<FlowKey<Ipv4>, Flow> = HashMap::pinned(262_144, 0);
#[map]
static FLOWS6: HashMap<FlowKey<Ipv6>, Flow> = HashMap::pinned(262_144, 0);

/// Flows whose other side has not answered. Least recently used go first: a flood turns over nothing but this table.
#[map]
static OPENING4: LruHashMap<FlowKey<Ipv4>, Flow> = LruHashMap::pinned(65_536, 0);
#[map]
static OPENING6: LruHashMap<FlowKey<Ipv6>, Flow> = LruHashMap::pinned(65_536, 0);

/// The wire side of every translated flow that is established, and the host's flows inside the NAT range.
#[map]
static NAT4: HashMap<NatKey<Ipv4>, NatHolder<Ipv4>> = HashMap::pinned(262_144, 0);
#[map]
static NAT6: HashMap<NatKey<Ipv6>, NatHolder<Ipv6>> = HashMap::pinned(262_144, 0);

/// The wire side of translated flows whose other side has not answered.
#[map]
static NATOPEN4: LruHashMap<NatKey<Ipv4>, NatHolder<Ipv4>> = LruHashMap::pinned(65_536, 0);
#[map]
static NATOPEN6: LruHashMap<NatKey<Ipv6>, NatHolder<Ipv6>> = LruHashMap::pinned(65_536, 0);

/// Packets dropped, by [`DropReason::number`].
#[map]
pub static DROPS: PerCpuArray<u64> = PerCpuArray::pinned(DropReason::SLOTS, 0);

#[unsafe(no_mangle)]
static NODE_ADDRESS4: Global<u32> = Global::new(0);

#[unsafe(no_mangle)]
static NODE_ADDRESS6: Global<[u32; 4]> = Global::new([0; 4]);

/// 1 if IPv6 to the Internet is translated.
#[unsafe(no_mangle)]
static SNAT6: Global<u32> = Global::new(0);

/// 1 if pods are kept from the metadata service.
#[unsafe(no_mangle)]
static BLOCK_IMDS: Global<u32> = Global::new(0);

#[unsafe(no_mangle)]
pub static UPLINK_IFINDEX: Global<u32> = Global::new(0);

/// Largest IP packet the uplink sends, bytes.
#[unsafe(no_mangle)]
pub static UPLINK_MTU: Global<u32> = Global::new(1500);

#[unsafe(no_mangle)]
pub static NAT_PORTS: Global<PortRange> = Global::new(PortRange::DEFAULT);

#[unsafe(no_mangle)]
pub static TIMEOUTS: Global<Timeouts> = Global::new(Timeouts::DEFAULT);

/// 1 if all service prefixes are in the route table.
#[unsafe(no_mangle)]
static SERVICES_KNOWN: Global<u32> = Global::new(0);

pub fn services() -> Services {
    if SERVICES_KNOWN.load() == 1 { Services::Known } else { Services::Unknown }
}

/// The tables of an address family.
pub trait Tables: Family + Sized {
    fn endpoint(address: Self::Address) -> Option<&'static Endpoint>;
    fn route(destination: Self::Address) -> Option<RouteClass>;
    fn flows() -> &'static HashMap<FlowKey<Self::Address>, Flow>;
    fn translations() -> &'static HashMap<NatKey<Self::Address>, NatHolder<Self::Address>>;
    /// The address that translated flows leave from.
    fn node_address() -> Self::Address;
    fn check_platform(tuple: &Tuple<Self::Address>) -> Result<(), DropReason>;
}

impl Tables for V4 {
    fn endpoint(address: Ipv4) -> Option<&'static Endpoint> {
        // SAFETY: an endpoint's entry is replaced only after its pod is gone; a reader in between sees one of the two.
        unsafe { ENDPOINTS4.get(&address) }
    }

    fn route(destination: Ipv4) -> Option<RouteClass> {
        ROUTES4.get(&Key::new(32, destination)).copied()
    }

    fn flows() -> &'static HashMap<FlowKey<Ipv4>, Flow> {
        &FLOWS4
    }

    fn translations() -> &'static HashMap<NatKey<Ipv4>, NatHolder<Ipv4>> {
        &NAT4
    }

    fn node_address() -> Ipv4 {
        Ipv4(NODE_ADDRESS4.load())
    }

    fn check_platform(tuple: &Tuple<Ipv4>) -> Result<(), DropReason> {
        platform::check_ipv4(tuple)
    }
}
