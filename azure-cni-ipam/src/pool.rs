//! The addresses that pods of this VM may get: what the source lists for the uplink, without the reserved addresses.
//!
//! Reserved are, besides what is reserved everywhere ([`reserved`](crate::reserved)), the VM's own addresses, and in every subnet of
//! the uplink the network address, the gateway and the IPv4 broadcast address. `withheld` names the reserved addresses that the
//! source lists. [`Pool::withholds`] is asked of every address before a pod gets it, whatever source it comes from.

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use azure_cni_api::mac::MacAddress;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::addresses::Addresses;
use crate::nic::{Listing, Nic, NicMac, Subnet};
use crate::oddity::Oddities;
use crate::reserved::{self, Reserved};

/// How many interfaces an error names.
const MAX_NAMED: usize = 16;

/// Why a listing gives no pool. A retry helps once the source lists the uplink correctly.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    #[error("no interface in the address source has the uplink's MAC address {uplink} or \"*\"; listed: {listed}{odd}")]
    NoSuchNic { uplink: MacAddress, listed: String, odd: String },
    /// Source NAT needs this address.
    #[error("the address source lists no primary IPv4 address for the uplink (entry {nic}){odd}")]
    NoPrimary { nic: NicMac, odd: String },
}

/// An address that the source lists for pods and that no pod gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withheld {
    pub address: IpAddr,
    pub reason: Reserved,
}

/// Addresses that the node uses itself, as last observed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeAddresses {
    /// Of the host's interfaces.
    pub interfaces: BTreeSet<IpAddr>,
    /// That rules of the node translate.
    pub services: BTreeSet<IpAddr>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolSubnet {
    pub prefix: IpNet,
    /// The platform's router in this subnet: base + 1.
    pub gateway: IpAddr,
    /// The VM's own address in this subnet.
    pub primary: Option<IpAddr>,
    /// The addresses for pods.
    pub addresses: Vec<IpAddr>,
}

impl PoolSubnet {
    /// A subnet whose addresses another component hands out, such as azure-cns.
    pub fn outside_of_pool(prefix: IpNet, named: Option<IpAddr>) -> Self {
        Self { prefix, gateway: named.unwrap_or_else(|| gateway(prefix)), primary: None, addresses: Vec::new() }
    }
}

/// The uplink's addresses. A NIC may be in several subnets of either family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// The NIC's primary IPv4 address: the first one that the source marks as primary.
    pub primary: Ipv4Addr,
    /// The NIC's primary IPv6 address, if it has one.
    pub primary6: Option<Ipv6Addr>,
    pub subnets: Vec<PoolSubnet>,
    pub withheld: Vec<Withheld>,
    /// The addresses for pods that have a public address of their own, if the source says so.
    pub public: BTreeSet<IpAddr>,
    /// What the source says and the pool does not use, one sentence each.
    #[serde(default)]
    pub oddities: Vec<String>,
}

impl Pool {
    /// Takes the entry with the uplink's MAC address, else the one written `*`. Of several, the first with a primary address.
    pub fn for_uplink(listing: &Listing, uplink: MacAddress) -> Result<Self, PoolError> {
        let Listing { nics, oddities } = listing;
        let entries = |mac| nics.iter().filter(move |nic| nic.mac == mac);
        let own: Vec<_> = entries(NicMac::Exact(uplink)).collect();
        let own = if own.is_empty() { entries(NicMac::First).collect() } else { own };
        let no_such = || PoolError::NoSuchNic { uplink, listed: named(nics), odd: oddities.explanation() };
        let first = own.first().ok_or_else(no_such)?;
        let with_primary = own.iter().find_map(|nic| Some((*nic, primaries(nic)?)));
        let (nic, primaries) =
            with_primary.ok_or_else(|| PoolError::NoPrimary { nic: first.mac, odd: oddities.explanation() })?;
        let mut oddities = oddities.clone();
        if own.len() > 1 {
            oddities.push(&format!("interface {} is listed {} times; one entry is used", nic.mac, own.len()));
        }
        let is_other = |nic: &&Nic| matches!(nic.mac, NicMac::Exact(mac) if mac != uplink);
        Ok(Self::of_nic(nic, primaries, nics.iter().filter(is_other).flat_map(addresses_of), oddities))
    }

    fn of_nic(nic: &Nic, primaries: Addresses, others: impl Iterator<Item = IpAddr>, mut oddities: Oddities) -> Self {
        // Of all subnets together: one subnet's gateway may lie within another subnet's prefix. The last reason wins.
        let others = others.map(|address| (address, Reserved::OtherNic));
        let reserved: HashMap<_, _> = others.chain(nic.subnets.iter().flat_map(reserved)).collect();
        let reason = |address: &IpAddr| reserved::always(*address).or_else(|| reserved.get(address).copied());
        let (mut withheld, mut seen) = (Vec::new(), HashSet::new());
        let mut subnets = Vec::with_capacity(nic.subnets.len());
        for Subnet { prefix, primary, secondaries, .. } in &nic.subnets {
            let mut addresses = Vec::with_capacity(secondaries.len());
            for address in secondaries {
                if !seen.insert(*address) {
                    oddities.push(&format!("address {address} is listed a second time; it is used once"));
                    continue;
                }
                match reason(address) {
                    Some(reason) => withheld.push(Withheld { address: *address, reason }),
                    None => addresses.push(*address),
                }
            }
            subnets.push(PoolSubnet { prefix: *prefix, gateway: gateway(*prefix), primary: *primary, addresses });
        }
        let public = nic.subnets.iter().flat_map(|subnet| &subnet.public).copied();
        let public = public.filter(|address| reason(address).is_none()).collect();
        let oddities = oddities.sentences();
        Self { primary: primaries.v4, primary6: primaries.v6, subnets, withheld, public, oddities }
    }

    /// Why no pod gets this address now, if none does: the question that is asked of every address, whether a source listed it,
    /// an earlier agent stored it, or azure-cns gave it.
    ///
    /// Network and broadcast addresses are judged only where they are listed, in [`Pool::for_uplink`]: azure-cns names blocks
    /// of addresses that are no subnets, and gives out all of them.
    pub fn withholds(&self, address: IpAddr, node: &NodeAddresses) -> Option<Reserved> {
        let is_primary = |address| {
            self.primaries().same_family(address) == Some(address)
                || self.subnets.iter().any(|subnet| subnet.primary == Some(address))
        };
        match reserved::always(address) {
            Some(reason) => Some(reason),
            None if is_primary(address) => Some(Reserved::Primary),
            None if self.subnets.iter().any(|subnet| subnet.gateway == address) => Some(Reserved::Gateway),
            None if node.interfaces.contains(&address) => Some(Reserved::HeldByHost),
            None if node.services.contains(&address) => Some(Reserved::OfService),
            None => None,
        }
    }

    /// Every address that a pod may get, for [`Leases::set_pool`](crate::Leases::set_pool).
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.subnets.iter().flat_map(|subnet| subnet.addresses.iter().copied())
    }

    /// Whether pods get an IPv6 address too: the source lists one for them. An IPv6 address of the VM alone does not count,
    /// or no pod could start on a VM whose NIC has a single IPv6 address.
    pub fn is_dual_stack(&self) -> bool {
        self.addresses().any(|address| address.is_ipv6())
    }

    /// The VM's own addresses, from which it reaches pods and to which source NAT translates.
    pub fn primaries(&self) -> Addresses {
        Addresses { v4: self.primary, v6: self.primary6 }
    }

    /// The subnet of an address: the longest prefix that contains it.
    pub fn subnet_of(&self, address: IpAddr) -> Option<&PoolSubnet> {
        let holding = self.subnets.iter().filter(|subnet| subnet.prefix.contains(&address));
        holding.max_by_key(|subnet| subnet.prefix.prefix_len())
    }
}

/// The first addresses of the NIC that are marked as its own; `None` without one of IPv4 that a host can have.
fn primaries(nic: &Nic) -> Option<Addresses> {
    let listed = nic.subnets.iter().filter_map(|subnet| subnet.primary);
    Addresses::first_of_each(listed.filter(|address| reserved::always(*address).is_none()))
}

fn addresses_of(nic: &Nic) -> impl Iterator<Item = IpAddr> {
    nic.subnets.iter().flat_map(|subnet| subnet.primary.iter().chain(&subnet.secondaries).copied())
}

fn named(nics: &[Nic]) -> String {
    let mut listed: Vec<_> = nics.iter().take(MAX_NAMED).map(|nic| nic.mac.to_string()).collect();
    if nics.len() > MAX_NAMED {
        listed.push("...".to_owned());
    }
    if listed.is_empty() { "none".into() } else { listed.join(", ") }
}

/// The VM's own address comes last: in a map, the last of two reasons for one address wins.
fn reserved(subnet: &Subnet) -> impl Iterator<Item = (IpAddr, Reserved)> {
    let network = subnet.prefix.network();
    let (network, broadcast) = match subnet.prefix {
        IpNet::V4(prefix) => {
            ((network, Reserved::Network), Some((IpAddr::V4(prefix.broadcast()), Reserved::Broadcast)))
        }
        IpNet::V6(_) => ((network, Reserved::RouterAnycast), None),
    };
    let gateway = (gateway(subnet.prefix), Reserved::Gateway);
    let primary = subnet.primary.map(|primary| (primary, Reserved::Primary));
    [Some(network), broadcast, Some(gateway), primary].into_iter().flatten()
}

fn gateway(prefix: IpNet) -> IpAddr {
    match prefix.network() {
        IpAddr::V4(base) => Ipv4Addr::from_bits(base.to_bits() | 1).into(),
        IpAddr::V6(base) => Ipv6Addr::from_bits(base.to_bits() | 1).into(),
    }
}
