//! All maps and load-time constants.
//!
//! What is known when the programs are loaded is a read-only global, which the verifier folds into the code; what changes
//! later is a map. The agent pins the maps; sizes are set at load time from its configuration.

use aya_ebpf::{
    Global,
    bindings::BPF_F_NO_PREALLOC,
    macros::map,
    maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf, lpm_trie::Key},
};
use azure_cni_common::conntrack::Timeouts;
use azure_cni_common::drop_reason::DropReason;
use azure_cni_common::egress::{self, RouteClass, ServicePrefixes};
use azure_cni_common::endpoint::{Endpoint, MISS, NOT_LOCAL, SLOTS, Slot, slot_of};
use azure_cni_common::family::{Be16, Family, Ipv4, Ipv6, V4, V6};
use azure_cni_common::flow::{Flow, FlowKey, Tuple};
use azure_cni_common::fragments::{FragmentKey, FragmentPorts};
use azure_cni_common::host_ports::{HOST_PORT_WORDS, host_port_bit};
use azure_cni_common::nat::{Candidates, NatHolder, NatKey, PortRange};

use crate::nat;
use crate::packet::{Packet, Quoted};

#[map]
static ENDPOINTS4: HashMap<Ipv4, Endpoint> = HashMap::pinned(1024, 0);
#[map]
static ENDPOINTS6: HashMap<Ipv6, Endpoint> = HashMap::pinned(1024, 0);

/// What most packets find here, no table has to be asked for.
#[map]
static ENDPOINT_CACHE4: Array<Slot<Ipv4>> = Array::pinned(SLOTS, 0);
#[map]
static ENDPOINT_CACHE6: Array<Slot<Ipv6>> = Array::pinned(SLOTS, 0);

/// Destinations that are not the Internet.
#[map]
static ROUTES4: LpmTrie<Ipv4, RouteClass> = LpmTrie::pinned(4096, BPF_F_NO_PREALLOC);
#[map]
static ROUTES6: LpmTrie<Ipv6, RouteClass> = LpmTrie::pinned(4096, BPF_F_NO_PREALLOC);

/// The router that all of the Internet is behind, at index 0. Unspecified: more than one, or unknown; the kernel's routes
/// say then.
#[map]
static GATEWAY4: Array<Ipv4> = Array::pinned(1, 0);
#[map]
static GATEWAY6: Array<Ipv6> = Array::pinned(1, 0);

/// The connection table. Preallocated: a new flow costs no allocation, and full means refused.
#[map]
static FLOWS4: HashMap<FlowKey<Ipv4>, Flow> = HashMap::pinned(262_144, 0);
#[map]
static FLOWS6: HashMap<FlowKey<Ipv6>, Flow> = HashMap::pinned(262_144, 0);

/// Flows whose other side has not answered. Least recently used go first: a flood turns over nothing but this table.
#[map]
static HALF_OPEN4: LruHashMap<FlowKey<Ipv4>, Flow> = LruHashMap::pinned(65_536, 0);
#[map]
static HALF_OPEN6: LruHashMap<FlowKey<Ipv6>, Flow> = LruHashMap::pinned(65_536, 0);

/// The wire side of every translated flow that is established, and the host's flows inside the NAT range.
#[map]
static NAT4: HashMap<NatKey<Ipv4>, NatHolder<Ipv4>> = HashMap::pinned(262_144, 0);
#[map]
static NAT6: HashMap<NatKey<Ipv6>, NatHolder<Ipv6>> = HashMap::pinned(262_144, 0);

/// The wire side of translated flows whose other side has not answered.
#[map]
static NAT_HALF_OPEN4: LruHashMap<NatKey<Ipv4>, NatHolder<Ipv4>> = LruHashMap::pinned(65_536, 0);
#[map]
static NAT_HALF_OPEN6: LruHashMap<NatKey<Ipv6>, NatHolder<Ipv6>> = LruHashMap::pinned(65_536, 0);

/// The ports of packets that come in fragments, while their later fragments may follow.
#[map]
static FRAGMENTS4: LruHashMap<FragmentKey<Ipv4>, FragmentPorts> = LruHashMap::pinned(8192, 0);
#[map]
static FRAGMENTS6: LruHashMap<FragmentKey<Ipv6>, FragmentPorts> = LruHashMap::pinned(8192, 0);

/// Ports that are just being taken from a holder whose flow is over: one CPU at a time.
#[map]
static TAKEOVERS4: HashMap<NatKey<Ipv4>, u32> = HashMap::pinned(1024, 0);
#[map]
static TAKEOVERS6: HashMap<NatKey<Ipv6>, u32> = HashMap::pinned(1024, 0);

/// Ports that sockets of the host hold, as bits: see [`host_port_bit`].
#[map]
static HOST_PORTS: Array<u64> = Array::pinned(HOST_PORT_WORDS, 0);

/// Flows that were refused, for the agent to tell.
#[map]
pub static EVENTS: RingBuf = RingBuf::pinned(256 * 1024, 0);

/// Packets dropped, by [`DropReason::number`].
#[map]
pub static DROPS: PerCpuArray<u64> = PerCpuArray::pinned(DropReason::SLOTS, 0);

/// How often hashes (index 0) and tables of prefixes (index 1) were used, if [`COUNT_USES`] says so.
#[map]
static USES: PerCpuArray<u64> = PerCpuArray::pinned(2, 0);

/// What a program works with and a stack of 512 bytes has no room for, the caller's and the callees' taken together. One of
/// each for a CPU: a program is not interrupted by another on the same CPU, and every packet writes before it reads.
#[map]
static PACKET4: PerCpuArray<Packet<V4>> = PerCpuArray::with_max_entries(1, 0);
#[map]
static PACKET6: PerCpuArray<Packet<V6>> = PerCpuArray::with_max_entries(1, 0);
#[map]
static SCRATCH4: PerCpuArray<Scratch<V4>> = PerCpuArray::with_max_entries(1, 0);
#[map]
static SCRATCH6: PerCpuArray<Scratch<V6>> = PerCpuArray::with_max_entries(1, 0);

/// Keys and values that are looked for while a port is searched, or a message translated.
pub struct Scratch<F: Family> {
    /// Of the flow that wants a port, then of the one that holds it.
    pub tuple: Tuple<F::Address>,
    pub now_ns: u64,
    pub candidates: Candidates,
    /// Of the search, see [`crate::nat`].
    pub allocation: u64,
    pub key: NatKey<F::Address>,
    pub holder: NatHolder<F::Address>,
    /// Of the flow that holds a port.
    pub holding: FlowKey<F::Address>,
    pub quoted: Quoted<F>,
}

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

/// 1 if uses of tables are counted, as the benchmark has it. Else the verifier takes the counting out.
#[unsafe(no_mangle)]
static COUNT_USES: Global<u32> = Global::new(0);

/// Of the search for ports, see [`azure_cni_common::nat::search_start`].
#[unsafe(no_mangle)]
pub static NAT_SEED: Global<u32> = Global::new(0);

pub fn service_prefixes() -> ServicePrefixes {
    if SERVICES_KNOWN.load() == 1 { ServicePrefixes::Known } else { ServicePrefixes::Unknown }
}

/// Whether a socket of the host holds the port, towards everybody.
pub fn is_host_port(protocol: u8, port: Be16) -> bool {
    let Some((word, bit)) = host_port_bit(protocol, port) else { return false };
    HOST_PORTS.get(word).is_some_and(|bits| bits & bit != 0)
}

/// Every use of a table begins with the accessor that this is called from, and arrays are not counted: they are an addition.
#[inline(always)]
fn count_use(index: u32) {
    if COUNT_USES.load() == 1
        && let Some(uses) = USES.get_ptr_mut(index)
    {
        // SAFETY: this CPU's own slot, and a program is not interrupted by itself on one CPU.
        unsafe { *uses += 1 };
    }
}

/// Indexes of [`USES`].
const HASH: u32 = 0;
const PREFIXES: u32 = 1;

/// The tables of an address family.
pub trait Tables: Family + Sized {
    /// The pod that has the address.
    #[inline(always)]
    fn endpoint(address: Self::Address) -> Option<Endpoint> {
        let endpoint = Self::cached(slot_of(address))?.find(address);
        match endpoint.ifindex {
            NOT_LOCAL => None,
            MISS => Self::endpoint_in_table(address),
            _ => Some(endpoint),
        }
    }

    /// A slot of the endpoints' cache.
    fn cached(index: u32) -> Option<Slot<Self::Address>>;
    fn endpoint_in_table(address: Self::Address) -> Option<Endpoint>;
    fn route(destination: Self::Address) -> Option<RouteClass>;
    /// The router that all of the Internet is behind, if there is one.
    fn gateway() -> Option<Self::Address>;
    fn flows() -> &'static HashMap<FlowKey<Self::Address>, Flow>;
    fn half_open() -> &'static LruHashMap<FlowKey<Self::Address>, Flow>;
    fn translations() -> &'static HashMap<NatKey<Self::Address>, NatHolder<Self::Address>>;
    fn half_open_translations() -> &'static LruHashMap<NatKey<Self::Address>, NatHolder<Self::Address>>;
    fn take_overs() -> &'static HashMap<NatKey<Self::Address>, u32>;
    fn fragments() -> &'static LruHashMap<FragmentKey<Self::Address>, FragmentPorts>;
    /// This CPU's place for the packet.
    fn packet() -> Option<&'static mut Packet<Self>>;
    /// This CPU's place for what is looked for. To be taken by one function at a time.
    fn scratch() -> Option<&'static mut Scratch<Self>>;
    /// The address that translated flows leave from.
    fn node_address() -> Self::Address;
    /// [`crate::nat::search`], as a function that the verifier takes for itself.
    fn search(now_ns: u64) -> u64;
    /// Whether what leaves for the Internet is translated.
    fn is_translated() -> bool;
    fn check_platform(tuple: &Tuple<Self::Address>) -> Result<(), DropReason>;
}

macro_rules! tables {
    ($($name:ident: $map:ident<$key:ty, $value:ty> = $table:ident;)+) => {
        $(
            #[inline(always)]
            fn $name() -> &'static $map<$key, $value> {
                count_use(HASH);
                &$table
            }
        )+
    };
}

impl Tables for V4 {
    #[inline(always)]
    fn cached(index: u32) -> Option<Slot<Ipv4>> {
        // SAFETY: the agent may write at the same time; every word is read once, and what they are together is checked.
        ENDPOINT_CACHE4.get_ptr(index).map(|slot| unsafe { slot.read_volatile() })
    }

    fn endpoint_in_table(address: Ipv4) -> Option<Endpoint> {
        count_use(HASH);
        // SAFETY: an endpoint's entry is replaced only after its pod is gone; a reader in between sees one of the two.
        unsafe { ENDPOINTS4.get(&address) }.copied()
    }

    fn route(destination: Ipv4) -> Option<RouteClass> {
        count_use(PREFIXES);
        ROUTES4.get(&Key::new(32, destination)).copied()
    }

    fn gateway() -> Option<Ipv4> {
        GATEWAY4.get(0).copied().filter(|gateway| *gateway != Ipv4::default())
    }

    tables! {
        flows: HashMap<FlowKey<Ipv4>, Flow> = FLOWS4;
        half_open: LruHashMap<FlowKey<Ipv4>, Flow> = HALF_OPEN4;
        translations: HashMap<NatKey<Ipv4>, NatHolder<Ipv4>> = NAT4;
        half_open_translations: LruHashMap<NatKey<Ipv4>, NatHolder<Ipv4>> = NAT_HALF_OPEN4;
        take_overs: HashMap<NatKey<Ipv4>, u32> = TAKEOVERS4;
        fragments: LruHashMap<FragmentKey<Ipv4>, FragmentPorts> = FRAGMENTS4;
    }

    fn search(now_ns: u64) -> u64 {
        nat_search4(now_ns)
    }

    fn packet() -> Option<&'static mut Packet<V4>> {
        // SAFETY: this CPU's own, and taken once a packet; see the map.
        PACKET4.get_ptr_mut(0).map(|packet| unsafe { &mut *packet })
    }

    fn scratch() -> Option<&'static mut Scratch<V4>> {
        // SAFETY: this CPU's own; whoever takes it calls nobody who does.
        SCRATCH4.get_ptr_mut(0).map(|scratch| unsafe { &mut *scratch })
    }

    fn node_address() -> Ipv4 {
        Ipv4(NODE_ADDRESS4.load())
    }

    fn is_translated() -> bool {
        true
    }

    fn check_platform(tuple: &Tuple<Ipv4>) -> Result<(), DropReason> {
        egress::check_ipv4(tuple, BLOCK_IMDS.load() == 1)
    }
}

impl Tables for V6 {
    #[inline(always)]
    fn cached(index: u32) -> Option<Slot<Ipv6>> {
        // SAFETY: the agent may write at the same time; every word is read once, and what they are together is checked.
        ENDPOINT_CACHE6.get_ptr(index).map(|slot| unsafe { slot.read_volatile() })
    }

    fn endpoint_in_table(address: Ipv6) -> Option<Endpoint> {
        count_use(HASH);
        // SAFETY: as for IPv4.
        unsafe { ENDPOINTS6.get(&address) }.copied()
    }

    fn route(destination: Ipv6) -> Option<RouteClass> {
        count_use(PREFIXES);
        ROUTES6.get(&Key::new(128, destination)).copied()
    }

    fn gateway() -> Option<Ipv6> {
        GATEWAY6.get(0).copied().filter(|gateway| *gateway != Ipv6::default())
    }

    tables! {
        flows: HashMap<FlowKey<Ipv6>, Flow> = FLOWS6;
        half_open: LruHashMap<FlowKey<Ipv6>, Flow> = HALF_OPEN6;
        translations: HashMap<NatKey<Ipv6>, NatHolder<Ipv6>> = NAT6;
        half_open_translations: LruHashMap<NatKey<Ipv6>, NatHolder<Ipv6>> = NAT_HALF_OPEN6;
        take_overs: HashMap<NatKey<Ipv6>, u32> = TAKEOVERS6;
        fragments: LruHashMap<FragmentKey<Ipv6>, FragmentPorts> = FRAGMENTS6;
    }

    fn search(now_ns: u64) -> u64 {
        nat_search6(now_ns)
    }

    fn packet() -> Option<&'static mut Packet<V6>> {
        // SAFETY: this CPU's own, and taken once a packet; see the map.
        PACKET6.get_ptr_mut(0).map(|packet| unsafe { &mut *packet })
    }

    fn scratch() -> Option<&'static mut Scratch<V6>> {
        // SAFETY: this CPU's own; whoever takes it calls nobody who does.
        SCRATCH6.get_ptr_mut(0).map(|scratch| unsafe { &mut *scratch })
    }

    fn node_address() -> Ipv6 {
        Ipv6(NODE_ADDRESS6.load())
    }

    fn is_translated() -> bool {
        SNAT6.load() == 1
    }

    /// The platform has no services at IPv6 addresses.
    fn check_platform(_: &Tuple<Ipv6>) -> Result<(), DropReason> {
        Ok(())
    }
}

// The verifier walks a global function once, however many ways lead to it (Documentation/bpf/verifier.rst); it may take
// numbers only.

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn nat_search4(now_ns: u64) -> u64 {
    nat::search::<V4>(now_ns)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn nat_search6(now_ns: u64) -> u64 {
    nat::search::<V6>(now_ns)
}
