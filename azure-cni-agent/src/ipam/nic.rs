//! What an address source says of the VM: its NICs, their subnets, and the addresses in each.
//!
//! Every source is turned into these types first, with the same promises: an address lies in its subnet and is listed
//! once, a subnet has room for a gateway and pods.

use std::fmt;
use std::net::Ipv4Addr;

use ipnet::{Ipv4Net, Ipv6Net};

use super::mac::MacAddress;

/// Which interface of the VM an entry speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NicMac {
    /// The source writes `*`: the first NIC.
    First,
    Exact(MacAddress),
}

impl fmt::Display for NicMac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::First => f.write_str("*"),
            Self::Exact(mac) => mac.fmt(f),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nic {
    pub mac: NicMac,
    pub primary: bool,
    pub subnets: Vec<Subnet>,
    /// IPv6 subnets the source lists. Their addresses are not read yet: for the log, so that nobody misses them.
    pub ipv6_prefixes: Vec<Ipv6Net>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet {
    pub prefix: Ipv4Net,
    /// The VM's own address in this subnet.
    pub primary: Option<Ipv4Addr>,
    /// All other addresses that the platform routes to this NIC, in the source's order.
    pub secondaries: Vec<Ipv4Addr>,
}

/// Azure's subnets are /2 to /29 (virtual network FAQ, "How small and how large can virtual networks and subnets be?").
/// A /30 is let through too: the smallest with a gateway and one more address, for networks outside of Azure.
pub(super) const SUBNET_LENGTHS: std::ops::RangeInclusive<u8> = 2..=30;
