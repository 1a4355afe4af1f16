//! The tables of an address family, and the look-ups in them that more than one step makes.
//!
//! Map values live as long as a program runs, and other CPUs write them at the same time. So they are read and written field
//! by field: each combination of old and new fields is an entry that could have been seen.

use aya_ebpf::{
    helpers::generated::bpf_ktime_get_coarse_ns,
    maps::{HashMap, LruHashMap, lpm_trie::Key},
};
use azure_cni_common::drop_reason::DropReason;
use azure_cni_common::egress::RouteClass;
use azure_cni_common::endpoint::{EndpointEntry, MISS, NOT_LOCAL, Slot, is_whole, slot_of};
use azure_cni_common::family::{Address, Be16, Family, Ipv4, Ipv6, TCP, V4, V6};
use azure_cni_common::flow::{Flow, FlowKey, Nat, Path, Tuple};
use azure_cni_common::fragments::{FragmentKey, FragmentPorts};
use azure_cni_common::host_ports::host_port_bit;
use azure_cni_common::nat::{NatHolder, NatKey};
use azure_cni_common::pod_flows::PodFlows;
use azure_cni_common::recent_refusal::{RecentRefusal, RefusalKey};

use crate::globals::{self, Globals};
use crate::maps::*;
use crate::scratch::Memory;
use crate::uses::{self, Table};

/// A key is there already. include/uapi/asm-generic/errno-base.h
pub const EEXIST: i32 = 17;

/// The addresses that a pod may send from besides those it was given.
pub trait LinkSources: Family {
    fn is_link_source_of(ifindex: u32, source: Self::Address) -> bool;
}

impl LinkSources for V4 {
    fn is_link_source_of(_: u32, _: Ipv4) -> bool {
        false
    }
}

impl LinkSources for V6 {
    /// The unspecified one, and that which its MAC makes. Of a pod that is being attached the MAC is not known yet.
    #[inline(never)]
    fn is_link_source_of(ifindex: u32, source: Ipv6) -> bool {
        if source == Ipv6::UNSPECIFIED {
            return true;
        }
        // SAFETY: an entry is replaced only after its pod is gone.
        match unsafe { LINK_LOCALS.get(&ifindex) } {
            Some(own) => *own == source,
            None => source.is_link_source(),
        }
    }
}

type EndpointWords = [u32; size_of::<EndpointEntry>() / 4];

pub trait Tables: Globals + Memory + LinkSources {
    /// The pod that has the address.
    #[inline(always)]
    fn endpoint(address: Self::Address) -> Option<EndpointEntry> {
        Self::endpoint_words(address).map(|words| zerocopy::transmute!(words))
    }

    /// In words: bytes of a MAC that come by two ways are kept on the stack, each on its own.
    #[inline(always)]
    fn endpoint_words(address: Self::Address) -> Option<EndpointWords> {
        let Some(slot) = Self::endpoint_slot(slot_of(address)) else { return Self::endpoint_in_table(address) };
        let endpoint = slot.find(address);
        match endpoint.ifindex {
            NOT_LOCAL => None,
            MISS => Self::endpoint_in_table(address),
            _ => Some(zerocopy::transmute!(endpoint)),
        }
    }

    /// The host veth of the pod that has the address.
    #[inline(always)]
    fn pod_ifindex(address: Self::Address) -> Option<u32> {
        Self::endpoint(address).map(|endpoint| endpoint.ifindex)
    }

    /// A slot of the endpoints' cache; `None` while it is written.
    fn endpoint_slot(index: u32) -> Option<Slot<Self::Address>>;
    fn endpoint_in_table(address: Self::Address) -> Option<EndpointWords>;
    fn route(destination: Self::Address) -> RouteClass;
    /// The router that all of the Internet is behind, if there is one.
    fn gateway() -> Option<Self::Address>;
    fn flows() -> &'static HashMap<FlowKey<Self::Address>, Flow>;
    fn half_open() -> &'static LruHashMap<FlowKey<Self::Address>, Flow>;
    fn datagrams() -> &'static LruHashMap<FlowKey<Self::Address>, Flow>;
    /// Where a flow of this key is until it is assured.
    #[inline(always)]
    fn unassured(key: &FlowKey<Self::Address>) -> &'static LruHashMap<FlowKey<Self::Address>, Flow> {
        if key.protocol() == TCP { Self::half_open() } else { Self::datagrams() }
    }
    fn pod_flows() -> &'static HashMap<Self::Address, PodFlows>;
    fn pods_swept() -> &'static HashMap<Self::Address, u64>;
    fn translations() -> &'static HashMap<NatKey<Self::Address>, NatHolder<Self::Address>>;
    fn half_open_translations() -> &'static LruHashMap<NatKey<Self::Address>, NatHolder<Self::Address>>;
    fn take_overs() -> &'static HashMap<NatKey<Self::Address>, u32>;
    fn fragments() -> &'static LruHashMap<FragmentKey<Self::Address>, FragmentPorts>;
}

macro_rules! tables_of {
    (
        $family:ty, $address:ty, $bits:literal, $endpoint_cache:ident, $endpoints:ident, $routes:ident, $gateway:ident,
        $($name:ident: $map:ident<$key:ty, $value:ty> = $table:ident;)+
    ) => {
        impl Tables for $family {
            #[inline(always)]
            fn endpoint_slot(index: u32) -> Option<Slot<$address>> {
                let words = $endpoint_cache.get_ptr(index)?.cast::<[u32; size_of::<Slot<$address>>() / 4]>();
                // SAFETY: the agent may write at the same time; every word is read once, and what they are together is checked.
                let words = unsafe { words.read_volatile() };
                if !is_whole(&words) {
                    return None;
                }
                Some(zerocopy::transmute!(words))
            }

            fn endpoint_in_table(address: $address) -> Option<EndpointWords> {
                uses::count(Table::Hash);
                // SAFETY: an endpoint's entry is replaced only after its pod is gone; a reader in between sees one of the two.
                unsafe { $endpoints.get(&address) }.map(|endpoint| zerocopy::transmute!(*endpoint))
            }

            fn route(destination: $address) -> RouteClass {
                uses::count(Table::Prefixes);
                $routes.get(&Key::new($bits, destination)).copied().unwrap_or(RouteClass::INTERNET)
            }

            fn gateway() -> Option<$address> {
                $gateway.get(0).copied().filter(|gateway| *gateway != <$address>::UNSPECIFIED)
            }

            $(
                #[inline(always)]
                fn $name() -> &'static $map<$key, $value> {
                    uses::count(Table::Hash);
                    &$table
                }
            )+
        }
    };
}

tables_of! {
    V4, Ipv4, 32, ENDPOINT_CACHE4, ENDPOINTS4, ROUTES4, GATEWAY4,
    flows: HashMap<FlowKey<Ipv4>, Flow> = FLOWS4;
    half_open: LruHashMap<FlowKey<Ipv4>, Flow> = HALF_OPEN4;
    datagrams: LruHashMap<FlowKey<Ipv4>, Flow> = DATAGRAMS4;
    pod_flows: HashMap<Ipv4, PodFlows> = POD_FLOWS4;
    pods_swept: HashMap<Ipv4, u64> = PODS_SWEPT4;
    translations: HashMap<NatKey<Ipv4>, NatHolder<Ipv4>> = NAT4;
    half_open_translations: LruHashMap<NatKey<Ipv4>, NatHolder<Ipv4>> = NAT_HALF_OPEN4;
    take_overs: HashMap<NatKey<Ipv4>, u32> = TAKEOVERS4;
    fragments: LruHashMap<FragmentKey<Ipv4>, FragmentPorts> = FRAGMENTS4;
}

tables_of! {
    V6, Ipv6, 128, ENDPOINT_CACHE6, ENDPOINTS6, ROUTES6, GATEWAY6,
    flows: HashMap<FlowKey<Ipv6>, Flow> = FLOWS6;
    half_open: LruHashMap<FlowKey<Ipv6>, Flow> = HALF_OPEN6;
    datagrams: LruHashMap<FlowKey<Ipv6>, Flow> = DATAGRAMS6;
    pod_flows: HashMap<Ipv6, PodFlows> = POD_FLOWS6;
    pods_swept: HashMap<Ipv6, u64> = PODS_SWEPT6;
    translations: HashMap<NatKey<Ipv6>, NatHolder<Ipv6>> = NAT6;
    half_open_translations: LruHashMap<NatKey<Ipv6>, NatHolder<Ipv6>> = NAT_HALF_OPEN6;
    take_overs: HashMap<NatKey<Ipv6>, u32> = TAKEOVERS6;
    fragments: LruHashMap<FragmentKey<Ipv6>, FragmentPorts> = FRAGMENTS6;
}

/// CLOCK_MONOTONIC at the last tick, by which entries expire: a few milliseconds late at most, and a third of the cost of the
/// exact time.
pub fn now_ns() -> u64 {
    // SAFETY: helper without arguments.
    unsafe { bpf_ktime_get_coarse_ns() }
}

/// The live flow of this key. The packet is not entered into it.
#[inline(always)]
pub fn live_flow<F: Tables>(key: &FlowKey<F::Address>, now_ns: u64) -> Option<&'static Flow> {
    // SAFETY: see the head of this file.
    let flow = unsafe { F::flows().get(key) };
    // SAFETY: as above.
    let flow = flow.or_else(|| unsafe { F::unassured(key).get(key) })?;
    if flow.is_live(now_ns) { Some(flow) } else { None }
}

/// Decides a flow's translation. The port first: what sees [`Nat::TRANSLATED`] finds it there.
#[inline(never)]
pub fn set_nat<F: Tables>(tuple: &Tuple<F::Address>, nat: Nat, port: Be16) {
    let (key, _) = FlowKey::of(tuple);
    if let Some(entry) = F::flows().get_ptr_mut(&key).or_else(|| F::unassured(&key).get_ptr_mut(&key)) {
        // SAFETY: see the head of this file.
        let entry = unsafe { &mut *entry };
        entry.nat_port = port;
        entry.nat = nat;
    }
}

/// From now on the flow takes the host's stack, both ways. For flows that are not assured.
#[inline(never)]
pub fn lead_through_stack<F: Tables>(key: &FlowKey<F::Address>) {
    if let Some(entry) = F::unassured(key).get_ptr_mut(key) {
        // SAFETY: see the head of this file.
        let entry = unsafe { &mut *entry };
        entry.path = Path::STACK;
    }
}

/// Whether a port of the node may be held by a translated flow. Port 0 stands for "no ports".
#[inline(always)]
pub fn can_be_held(port: Be16) -> bool {
    port == Be16(0) || globals::NAT_PORTS.load().contains(port.to_host())
}

/// The holder of the port of the node that a packet from the wire is for.
#[inline(always)]
pub fn holder_of<F: Tables>(key: &NatKey<F::Address>) -> Option<&'static NatHolder<F::Address>> {
    if !can_be_held(key.node_port) {
        return None;
    }
    // SAFETY: a reader during a replacement sees the old or the new holder, or an address and a port of both: then the
    // packet was for a flow that is over.
    let assured = unsafe { F::translations().get(key) };
    // SAFETY: as above.
    assured.or_else(|| unsafe { F::half_open_translations().get(key) })
}

/// Where refusals of this kind are remembered, and their key.
#[inline(always)]
pub fn recent_refusal<F: Tables>(
    tuple: &Tuple<F::Address>,
    reason: DropReason,
) -> Option<(&'static mut RecentRefusal, RefusalKey)> {
    let key = RefusalKey::of(globals::NAT_SEED.load(), tuple, reason);
    // SAFETY: this CPU's own place, and while a TC program runs, no other one runs on its CPU. No caller keeps it while it calls
    // another.
    REFUSALS.get_ptr_mut(key.place()).map(|place| (unsafe { &mut *place }, key))
}

/// Whether a socket of the host holds the port, towards all destinations.
pub fn is_host_port(protocol: u8, port: Be16) -> bool {
    let Some((word, bit)) = host_port_bit(protocol, port) else { return false };
    HOST_PORTS.get(word).is_some_and(|bits| bits & bit != 0)
}
