//! The addresses that pods of this VM may get: what the source lists for the uplink, without the reserved addresses.
//!
//! The VM's own addresses are always reserved, and in every subnet of the uplink the network address, the gateway and the
//! IPv4 broadcast address. `withheld` names the reserved addresses that the source lists, for the log.

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use azure_cni_api::mac::MacAddress;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::addresses::Addresses;
use crate::nic::{Nic, NicMac, Subnet};

/// Why a listing gives no pool. A retry helps once the source lists the uplink correctly.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    #[error("no interface in the address source has the uplink's MAC address {uplink} or \"*\"; listed: {listed}")]
    NoSuchNic { uplink: MacAddress, listed: String },
    /// Source NAT needs this address.
    #[error("the address source lists no primary IPv4 address for the uplink (entry {nic})")]
    NoPrimary { nic: NicMac },
}

/// Why an address is reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reserved {
    Primary,
    Network,
    /// RFC 4291 section 2.6.1: the network address of an IPv6 subnet means any of its routers.
    RouterAnycast,
    Gateway,
    Broadcast,
}

impl fmt::Display for Reserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Primary => "the VM's own address",
            Self::Network => "the subnet's network address",
            Self::RouterAnycast => "the subnet-router anycast address",
            Self::Gateway => "the subnet's gateway",
            Self::Broadcast => "the subnet's broadcast address",
        })
    }
}

/// An address that the source lists for pods and that no pod gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withheld {
    pub address: IpAddr,
    pub reason: Reserved,
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
}

impl Pool {
    /// Takes the entry with the uplink's MAC address, else the one written `*`.
    pub fn for_uplink(nics: &[Nic], uplink: MacAddress) -> Result<Self, PoolError> {
        let entry = |mac| nics.iter().find(|nic| nic.mac == mac);
        let nic = entry(NicMac::Exact(uplink)).or_else(|| entry(NicMac::First)).ok_or_else(|| {
            let listed: Vec<_> = nics.iter().map(|nic| nic.mac.to_string()).collect();
            PoolError::NoSuchNic { uplink, listed: if listed.is_empty() { "none".into() } else { listed.join(", ") } }
        })?;
        let primaries = Addresses::first_of_each(nic.subnets.iter().filter_map(|subnet| subnet.primary))
            .ok_or(PoolError::NoPrimary { nic: nic.mac })?;
        // Of all subnets together: one subnet's gateway may lie within another subnet's prefix.
        let reserved: HashMap<_, _> = nic.subnets.iter().flat_map(reserved).collect();
        let mut withheld = Vec::new();
        let subnets = nic.subnets.iter().map(|subnet| split(subnet, &reserved, &mut withheld)).collect();
        let public = nic.subnets.iter().flat_map(|subnet| &subnet.public).copied();
        let public = public.filter(|address| !reserved.contains_key(address)).collect();
        Ok(Self { primary: primaries.v4, primary6: primaries.v6, subnets, withheld, public })
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

fn split(subnet: &Subnet, reserved: &HashMap<IpAddr, Reserved>, withheld: &mut Vec<Withheld>) -> PoolSubnet {
    let mut addresses = Vec::with_capacity(subnet.secondaries.len());
    for &address in &subnet.secondaries {
        match reserved.get(&address) {
            Some(&reason) => withheld.push(Withheld { address, reason }),
            None => addresses.push(address),
        }
    }
    PoolSubnet { prefix: subnet.prefix, gateway: gateway(subnet.prefix), primary: subnet.primary, addresses }
}

fn gateway(prefix: IpNet) -> IpAddr {
    match prefix.network() {
        IpAddr::V4(base) => Ipv4Addr::from_bits(base.to_bits() | 1).into(),
        IpAddr::V6(base) => Ipv6Addr::from_bits(base.to_bits() | 1).into(),
    }
}
