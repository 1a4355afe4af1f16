//! What an address source lists: the VM's NICs, their subnets, and the addresses in each.
//!
//! Every source becomes these types, which keep the same promises: an address lies in its subnet, and a subnet has room for a
//! gateway and pods. What does not fit is left out, and named among the oddities.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use azure_cni_api::mac::MacAddress;
use ipnet::IpNet;

use crate::oddity::Oddities;

/// The interface of the VM that an entry is about.
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

/// A document, as far as it can be used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    pub nics: Vec<Nic>,
    /// What was left out.
    pub oddities: Oddities,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nic {
    pub mac: NicMac,
    pub primary: bool,
    /// The subnets of both families.
    pub subnets: Vec<Subnet>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet {
    pub prefix: IpNet,
    /// The VM's own address in this subnet.
    pub primary: Option<IpAddr>,
    /// The other addresses that the platform routes to this NIC, in the source's order.
    pub secondaries: Vec<IpAddr>,
    /// The addresses of this subnet that have a public address of their own; empty if the source does not say.
    pub public: Vec<IpAddr>,
}

/// The valid prefix lengths of a subnet. Azure's are /2 to /29, and /64 (virtual network FAQ, "How small and how large can
/// virtual networks and subnets be?"). Networks outside of Azure may have a /30 or /126, the smallest with a gateway and
/// one more address, and up to a /3, which is all of global unicast (RFC 4291 section 2.4).
pub(super) fn subnet_lengths(prefix: &IpNet) -> RangeInclusive<u8> {
    match prefix {
        IpNet::V4(_) => 2..=30,
        IpNet::V6(_) => 3..=126,
    }
}
