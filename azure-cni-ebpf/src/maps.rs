//! All maps that the agent pins: what outlives a program, and what the agent reads and writes.
//!
//! Sizes are set at load time from the agent's configuration. Names have 15 characters at most; the kernel keeps no more.

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    macros::map,
    maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf},
};
use azure_cni_common::bandwidth::Limits;
use azure_cni_common::drop_reason::DropReason;
use azure_cni_common::egress::RouteClass;
use azure_cni_common::endpoint::{EndpointEntry, SLOTS, Slot};
use azure_cni_common::family::{Ipv4, Ipv6};
use azure_cni_common::flow::{Flow, FlowKey};
use azure_cni_common::fragments::{FragmentKey, FragmentPorts};
use azure_cni_common::host_ports::HOST_PORT_WORDS;
use azure_cni_common::icmp_budget::IcmpBudget;
use azure_cni_common::nat::{NatHolder, NatKey};
use azure_cni_common::pod_flows::PodFlows;
use azure_cni_common::recent_refusal::{PLACES, RecentRefusal};

/// The pods of this node.
#[map]
pub static ENDPOINTS4: HashMap<Ipv4, EndpointEntry> = HashMap::pinned(1024, 0);
#[map]
pub static ENDPOINTS6: HashMap<Ipv6, EndpointEntry> = HashMap::pinned(1024, 0);

/// The link-local address of each pod, by host veth.
#[map]
pub static LINK_LOCALS: HashMap<u32, Ipv6> = HashMap::pinned(1024, 0);

/// What most packets find here, no table has to be asked for.
#[map]
pub static ENDPOINT_CACHE4: Array<Slot<Ipv4>> = Array::pinned(SLOTS, 0);
#[map]
pub static ENDPOINT_CACHE6: Array<Slot<Ipv6>> = Array::pinned(SLOTS, 0);

/// Destinations that are not the Internet. Entries are allocated as they come.
#[map]
pub static ROUTES4: LpmTrie<Ipv4, RouteClass> = LpmTrie::pinned(65_536, BPF_F_NO_PREALLOC);
#[map]
pub static ROUTES6: LpmTrie<Ipv6, RouteClass> = LpmTrie::pinned(65_536, BPF_F_NO_PREALLOC);

/// The router that all of the Internet is behind, at index 0. Unspecified: more than one, or unknown; the kernel's routes
/// say then.
#[map]
pub static GATEWAY4: Array<Ipv4> = Array::pinned(1, 0);
#[map]
pub static GATEWAY6: Array<Ipv6> = Array::pinned(1, 0);

/// The connection table. Preallocated: a new flow costs no allocation, and full means refused.
#[map]
pub static FLOWS4: HashMap<FlowKey<Ipv4>, Flow> = HashMap::pinned(262_144, 0);
#[map]
pub static FLOWS6: HashMap<FlowKey<Ipv6>, Flow> = HashMap::pinned(262_144, 0);

/// TCP flows that are not assured. The least recently used go first: a flood turns over nothing but its like.
#[map]
pub static HALF_OPEN4: LruHashMap<FlowKey<Ipv4>, Flow> = LruHashMap::pinned(65_536, 0);
#[map]
pub static HALF_OPEN6: LruHashMap<FlowKey<Ipv6>, Flow> = LruHashMap::pinned(65_536, 0);

/// The same for all other protocols.
#[map]
pub static DATAGRAMS4: LruHashMap<FlowKey<Ipv4>, Flow> = LruHashMap::pinned(65_536, 0);
#[map]
pub static DATAGRAMS6: LruHashMap<FlowKey<Ipv6>, Flow> = LruHashMap::pinned(65_536, 0);

/// How many flows of each pod are in the connection table: what the programs have counted, and what the agent has removed.
#[map]
pub static POD_FLOWS4: HashMap<Ipv4, PodFlows> = HashMap::pinned(1024, 0);
#[map]
pub static POD_FLOWS6: HashMap<Ipv6, PodFlows> = HashMap::pinned(1024, 0);
#[map]
pub static PODS_SWEPT4: HashMap<Ipv4, u64> = HashMap::pinned(1024, 0);
#[map]
pub static PODS_SWEPT6: HashMap<Ipv6, u64> = HashMap::pinned(1024, 0);

/// The wire side of every translated flow that is assured, and the host's flows inside the NAT range.
#[map]
pub static NAT4: HashMap<NatKey<Ipv4>, NatHolder<Ipv4>> = HashMap::pinned(262_144, 0);
#[map]
pub static NAT6: HashMap<NatKey<Ipv6>, NatHolder<Ipv6>> = HashMap::pinned(262_144, 0);

/// The wire side of translated flows that are not assured.
#[map]
pub static NAT_HALF_OPEN4: LruHashMap<NatKey<Ipv4>, NatHolder<Ipv4>> = LruHashMap::pinned(65_536, 0);
#[map]
pub static NAT_HALF_OPEN6: LruHashMap<NatKey<Ipv6>, NatHolder<Ipv6>> = LruHashMap::pinned(65_536, 0);

/// The ports of packets that come in fragments, while their later fragments may follow.
#[map]
pub static FRAGMENTS4: LruHashMap<FragmentKey<Ipv4>, FragmentPorts> = LruHashMap::pinned(8192, 0);
#[map]
pub static FRAGMENTS6: LruHashMap<FragmentKey<Ipv6>, FragmentPorts> = LruHashMap::pinned(8192, 0);

/// The ICMP errors that pods have sent, by host veth.
#[map]
pub static ICMP_BUDGETS: LruHashMap<u32, IcmpBudget> = LruHashMap::pinned(1024, 0);

/// How fast pods may send and receive, by host veth: of those pods only that have a limit.
#[map]
pub static BANDWIDTH: HashMap<u32, Limits> = HashMap::pinned(1024, 0);

/// Locks: ports that are just being taken from a holder whose flow is over: one CPU at a time.
#[map]
pub static TAKEOVERS4: HashMap<NatKey<Ipv4>, u32> = HashMap::pinned(1024, 0);
#[map]
pub static TAKEOVERS6: HashMap<NatKey<Ipv6>, u32> = HashMap::pinned(1024, 0);

/// Ports that sockets of the host hold, as bits: see [`host_port_bit`].
#[map]
pub static HOST_PORTS: Array<u64> = Array::pinned(HOST_PORT_WORDS, 0);

/// Flows that were refused, for the agent to report.
#[map]
pub static EVENTS: RingBuf = RingBuf::pinned(256 * 1024, 0);

/// What was refused a moment ago.
#[map]
pub static REFUSALS: PerCpuArray<RecentRefusal> = PerCpuArray::pinned(PLACES, 0);

/// Packets dropped, by [`DropReason::number`].
#[map]
pub static DROPS: PerCpuArray<u64> = PerCpuArray::pinned(DropReason::SLOTS, 0);
