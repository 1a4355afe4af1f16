//! The addresses that pods of this VM may get: what the source lists for the uplink, less what is never a pod's.
//!
//! Withheld, whatever the source says: the VM's own addresses, and the network address, gateway and broadcast address
//! of every subnet of the uplink. What was withheld although listed is named, for the log.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::mac::MacAddress;
use super::nic::{Nic, NicMac, Subnet};

/// Why a source's answer gives no pool. A retry helps once the source lists the uplink as it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    #[error("no interface in the address source has the uplink's MAC address {uplink} or \"*\"; listed: {listed}")]
    NoSuchNic { uplink: MacAddress, listed: String },
    /// Without it, translated flows would have no source address.
    #[error("the address source lists no primary address for the uplink (entry {nic})")]
    NoPrimary { nic: NicMac },
}

/// Why an address is never a pod's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserved {
    Primary,
    Network,
    Gateway,
    Broadcast,
}

impl fmt::Display for Reserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Primary => "the VM's own address",
            Self::Network => "the subnet's network address",
            Self::Gateway => "the subnet's gateway",
            Self::Broadcast => "the subnet's broadcast address",
        })
    }
}

/// An address that the source lists for pods and that no pod gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Withheld {
    pub address: Ipv4Addr,
    pub reason: Reserved,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolSubnet {
    pub prefix: Ipv4Net,
    /// The platform's router in this subnet: base + 1.
    pub gateway: Ipv4Addr,
    /// The VM's own address in this subnet.
    pub primary: Option<Ipv4Addr>,
    /// What pods may get.
    pub addresses: Vec<Ipv4Addr>,
}

/// Everything known of the uplink's addresses. One NIC may be in several subnets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// The NIC's primary address: the first that the source marks so.
    pub primary: Ipv4Addr,
    pub subnets: Vec<PoolSubnet>,
    pub withheld: Vec<Withheld>,
}

impl Pool {
    /// The entry with the uplink's MAC address, else the one written `*`.
    pub fn for_uplink(nics: &[Nic], uplink: MacAddress) -> Result<Self, PoolError> {
        let entry = |mac| nics.iter().find(|nic| nic.mac == mac);
        let nic = entry(NicMac::Exact(uplink)).or_else(|| entry(NicMac::First)).ok_or_else(|| {
            let listed: Vec<_> = nics.iter().map(|nic| nic.mac.to_string()).collect();
            PoolError::NoSuchNic { uplink, listed: if listed.is_empty() { "none".into() } else { listed.join(", ") } }
        })?;
        let primary =
            nic.subnets.iter().find_map(|subnet| subnet.primary).ok_or(PoolError::NoPrimary { nic: nic.mac })?;
        // Of all subnets at once: one subnet's gateway may lie within another subnet's prefix.
        let reserved: HashMap<_, _> = nic.subnets.iter().flat_map(reserved).collect();
        let mut withheld = Vec::new();
        let subnets = nic.subnets.iter().map(|subnet| split(subnet, &reserved, &mut withheld)).collect();
        Ok(Self { primary, subnets, withheld })
    }

    /// Every address that a pod may get, for [`LeaseBook::set_pool`](super::LeaseBook::set_pool).
    pub fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.subnets.iter().flat_map(|subnet| subnet.addresses.iter().copied())
    }

    /// The VM's own addresses, [`Self::primary`] first.
    pub fn primaries(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.subnets.iter().filter_map(|subnet| subnet.primary)
    }

    /// The subnet that an address of the pool belongs to: the longest prefix that holds it.
    pub fn subnet_of(&self, address: Ipv4Addr) -> Option<&PoolSubnet> {
        let holding = self.subnets.iter().filter(|subnet| subnet.prefix.contains(&address));
        holding.max_by_key(|subnet| subnet.prefix.prefix_len())
    }
}

/// Ordered so that of two reasons for one address the later wins in a map: the VM's own address comes last.
fn reserved(subnet: &Subnet) -> impl Iterator<Item = (Ipv4Addr, Reserved)> {
    let fixed = [
        (subnet.prefix.network(), Reserved::Network),
        (subnet.prefix.broadcast(), Reserved::Broadcast),
        (gateway(subnet.prefix), Reserved::Gateway),
    ];
    fixed.into_iter().chain(subnet.primary.map(|primary| (primary, Reserved::Primary)))
}

fn split(subnet: &Subnet, reserved: &HashMap<Ipv4Addr, Reserved>, withheld: &mut Vec<Withheld>) -> PoolSubnet {
    let mut addresses = Vec::with_capacity(subnet.secondaries.len());
    for &address in &subnet.secondaries {
        match reserved.get(&address) {
            Some(&reason) => withheld.push(Withheld { address, reason }),
            None => addresses.push(address),
        }
    }
    PoolSubnet { prefix: subnet.prefix, gateway: gateway(subnet.prefix), primary: subnet.primary, addresses }
}

fn gateway(prefix: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from_bits(prefix.network().to_bits() | 1)
}
