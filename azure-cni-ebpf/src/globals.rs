//! What is known when the programs are loaded: read-only globals, which the verifier folds into the code.
//!
//! The agent sets them by name. What changes later is a map.

use aya_ebpf::Global;
use azure_cni_common::drop_reason::DropReason;
use azure_cni_common::egress::{self, ServicePrefixes};
use azure_cni_common::family::{Family, Ipv4, Ipv6, V4, V6};
use azure_cni_common::flow::Tuple;
use azure_cni_common::lifetime::{Timeout, Timeouts};
use azure_cni_common::nat::PortRange;
use azure_cni_common::nat::share::BLOCKS;

#[unsafe(no_mangle)]
static NODE_ADDRESS4: Global<u32> = Global::new(0);

#[unsafe(no_mangle)]
static NODE_ADDRESS6: Global<[u32; 4]> = Global::new([0; 4]);

/// 1 if pods may have IPv6 addresses. If not, the verifier finds that nothing leads to the code for IPv6.
#[unsafe(no_mangle)]
static HAS_IPV6: Global<u32> = Global::new(0);

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

/// How much of [`NAT_PORTS`] a pod may hold, see [`azure_cni_common::nat::share`].
#[unsafe(no_mangle)]
pub static NAT_POD_BLOCKS: Global<u32> = Global::new(BLOCKS);

/// How many assured flows a pod may have.
#[unsafe(no_mangle)]
pub static POD_FLOW_SHARE: Global<u32> = Global::new(u32::MAX);

#[unsafe(no_mangle)]
static TIMEOUTS: Global<Timeouts> = Global::new(Timeouts::DEFAULT);

/// 1 if all service prefixes are in the route table.
#[unsafe(no_mangle)]
static SERVICES_KNOWN: Global<u32> = Global::new(0);

/// Of the search for ports, see [`azure_cni_common::nat::SearchKeys`].
#[unsafe(no_mangle)]
pub static NAT_SEED: Global<u32> = Global::new(0);

pub fn has_ipv6() -> bool {
    HAS_IPV6.load() == 1
}

/// One word of [`TIMEOUTS`]: to load all of them would take as much of the stack.
#[inline(always)]
pub fn timeout_secs(timeout: Timeout) -> u32 {
    let place = timeout as usize & (size_of::<Timeouts>() / 4 - 1);
    // SAFETY: the place is inside of the global, which is words and no more; nothing writes to it after the load.
    unsafe { (&raw const TIMEOUTS).cast::<u32>().wrapping_add(place).read_volatile() }
}

pub fn service_prefixes() -> ServicePrefixes {
    if SERVICES_KNOWN.load() == 1 { ServicePrefixes::Known } else { ServicePrefixes::Unknown }
}

/// What the globals say of one address family.
pub trait Globals: Family {
    /// The address that translated flows leave from.
    fn node_address() -> Self::Address;
    /// Whether what leaves for the Internet is translated.
    fn is_translated() -> bool;
    fn check_platform(tuple: &Tuple<Self::Address>) -> Result<(), DropReason>;
}

impl Globals for V4 {
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

impl Globals for V6 {
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
