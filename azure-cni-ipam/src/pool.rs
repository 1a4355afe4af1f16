//! The addresses that pods of this VM may get: what the source lists for the uplink, less what is never a pod's.
//!
//! Withheld, whatever the source says: the VM's own addresses, and of every subnet of the uplink the network address, the
//! gateway and, as IPv6 has none, in IPv4 the broadcast address. What was withheld although listed is named, for the log.

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use azure_cni_api::mac::MacAddress;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::addresses::Addresses;
use super::nic::{Nic, NicMac, Subnet};

/// Why a source's answer gives no pool. A retry helps once the source lists the uplink as it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    #[error("no interface in the address source has the uplink's MAC address {uplink} or \"*\"; listed: {listed}")]
    NoSuchNic { uplink: MacAddress, listed: String },
    /// Without it, translated flows would have no source address.
    #[error("the address source lists no primary IPv4 address for the uplink (entry {nic})")]
    NoPrimary { nic: NicMac },
}

/// Why an address is never a pod's.
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
    /// What pods may get.
    pub addresses: Vec<IpAddr>,
}

impl PoolSubnet {
    /// Of which somebody else hands addresses out.
    pub fn outside_of_pool(prefix: IpNet, named: Option<IpAddr>) -> Self {
        Self { prefix, gateway: named.unwrap_or_else(|| gateway(prefix)), primary: None, addresses: Vec::new() }
    }
}

/// Everything known of the uplink's addresses. One NIC may be in several subnets, of either family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// The NIC's primary IPv4 address: the first that the source marks so.
    pub primary: Ipv4Addr,
    /// Likewise of IPv6, where the NIC has one.
    pub primary6: Option<Ipv6Addr>,
    pub subnets: Vec<PoolSubnet>,
    pub withheld: Vec<Withheld>,
    /// Addresses for pods that have a public address of their own, as far as the source says.
    pub public: BTreeSet<IpAddr>,
}

impl Pool {
    /// The entry with the uplink's MAC address, else the one written `*`.
    pub fn for_uplink(nics: &[Nic], uplink: MacAddress) -> Result<Self, PoolError> {
        let entry = |mac| nics.iter().find(|nic| nic.mac == mac);
        let nic = entry(NicMac::Exact(uplink)).or_else(|| entry(NicMac::First)).ok_or_else(|| {
            let listed: Vec<_> = nics.iter().map(|nic| nic.mac.to_string()).collect();
            PoolError::NoSuchNic { uplink, listed: if listed.is_empty() { "none".into() } else { listed.join(", ") } }
        })?;
        let primaries = Addresses::first_of_each(nic.subnets.iter().filter_map(|subnet| subnet.primary))
            .ok_or(PoolError::NoPrimary { nic: nic.mac })?;
        // Of all subnets at once: one subnet's gateway may lie within another subnet's prefix.
        let reserved: HashMap<_, _> = nic.subnets.iter().flat_map(reserved).collect();
        let mut withheld = Vec::new();
        let subnets = nic.subnets.iter().map(|subnet| split(subnet, &reserved, &mut withheld)).collect();
        let public = nic.subnets.iter().flat_map(|subnet| &subnet.public).copied();
        let public = public.filter(|address| !reserved.contains_key(address)).collect();
        Ok(Self { primary: primaries.v4, primary6: primaries.v6, subnets, withheld, public })
    }

    /// Every address that a pod may get, for [`Leases::set_pool`](super::Leases::set_pool).
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.subnets.iter().flat_map(|subnet| subnet.addresses.iter().copied())
    }

    /// Whether pods get an IPv6 address too: where the source lists one for them. That the VM has one of its own does not
    /// do, or no pod could start on a VM whose NIC was given a single IPv6 address.
    pub fn is_dual_stack(&self) -> bool {
        self.addresses().any(|address| address.is_ipv6())
    }

    /// The VM's own addresses that pods are reached from and translated to.
    pub fn primaries(&self) -> Addresses {
        Addresses { v4: self.primary, v6: self.primary6 }
    }

    /// The subnet that an address of the pool belongs to: the longest prefix that holds it.
    pub fn subnet_of(&self, address: IpAddr) -> Option<&PoolSubnet> {
        let holding = self.subnets.iter().filter(|subnet| subnet.prefix.contains(&address));
        holding.max_by_key(|subnet| subnet.prefix.prefix_len())
    }
}

/// Ordered so that of two reasons for one address the later wins in a map: the VM's own address comes last.
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
