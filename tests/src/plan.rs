//! The addresses of all machines. Pure: this code touches no namespace.
//!
//! As on the platform, a VM's interface carries only its primary address; the secondary ones are for its pods and are
//! known to the fabric, which delivers them to the VM's MAC.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The VNet that the VMs are in.
pub const VNET_PREFIX: &str = "10.240.0.0/16";
/// The same VNet's IPv6 addresses, on a dual-stack network.
pub const VNET_PREFIX6: &str = "fd00:10:240::/48";
/// A peered VNet: pods keep their own address towards it.
pub const PEERED_PREFIX: &str = "10.250.0.0/16";
/// The peered VNet's IPv6 addresses.
pub const PEERED_PREFIX6: &str = "fd00:10:250::/48";
/// The platform's IPv6 gateway on every link, and the source of its IPv6 probes.
pub const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0x1234, 0x5678, 0x9abc);
/// Its MAC.
pub(crate) const GATEWAY_MAC: [u8; 6] = [0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc];
/// The usual address of a node-local DNS cache: for the VM's own stack, not for the wire.
pub const HOST_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 20, 10);

/// The most secondary addresses that the plan has room for; the platform's limit is 250 pods on a VM.
pub(crate) const MAX_POOL: u8 = 250;
/// The most VMs that the plan has room for.
pub(crate) const MAX_VMS: u8 = 200;

/// A machine's place on the fabric.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) name: String,
    pub(crate) mac: [u8; 6],
    pub(crate) address: Ipv4Addr,
    pub(crate) prefix_len: u8,
    /// The router's address on this link; the default route unless the machine has none.
    pub(crate) gateway: Ipv4Addr,
    /// Delivered to this machine too, but not configured on its interface.
    pub(crate) secondaries: Vec<Ipv4Addr>,
    /// The same of IPv6, on a dual-stack network.
    pub(crate) v6: Option<Place6>,
}

/// A machine's IPv6 addresses. Its default route, if it has one, leads to [`GATEWAY6`].
#[derive(Debug, Clone)]
pub(crate) struct Place6 {
    pub(crate) address: Ipv6Addr,
    pub(crate) prefix_len: u8,
    /// The router's address in the ICMP errors that it sends to this link.
    pub(crate) router: Ipv6Addr,
    pub(crate) secondaries: Vec<Ipv6Addr>,
}

/// What the router knows of a machine, in one version of IP.
pub(crate) struct Delivery {
    pub(crate) router: IpAddr,
    pub(crate) address: IpAddr,
    pub(crate) prefix_len: u8,
    pub(crate) secondaries: Vec<IpAddr>,
}

impl Place {
    /// Leaves the IPv6 addresses out, unless the network is to have them.
    pub(crate) fn in_network(mut self, dual_stack: bool) -> Self {
        self.v6 = self.v6.filter(|_| dual_stack);
        self
    }

    /// The place's addresses, version by version.
    pub(crate) fn deliveries(&self) -> impl Iterator<Item = Delivery> {
        let v4 = Delivery {
            router: self.gateway.into(),
            address: self.address.into(),
            prefix_len: self.prefix_len,
            secondaries: self.secondaries.iter().copied().map(IpAddr::from).collect(),
        };
        let v6 = self.v6.as_ref().map(|v6| Delivery {
            router: v6.router.into(),
            address: v6.address.into(),
            prefix_len: v6.prefix_len,
            secondaries: v6.secondaries.iter().copied().map(IpAddr::from).collect(),
        });
        [Some(v4), v6].into_iter().flatten()
    }
}

/// VM number `index` of the VNet, with `pool` addresses for pods.
pub(crate) fn vm(index: u8, pool: u8) -> Place {
    let number = index + 1;
    Place {
        name: format!("vm{number}"),
        // 00:0d:3a is one of the platform's own prefixes.
        mac: [0x00, 0x0d, 0x3a, 0xf9, 0x00, number],
        address: Ipv4Addr::new(10, 240, 0, 3 + number),
        prefix_len: 16,
        gateway: Ipv4Addr::new(10, 240, 0, 1),
        secondaries: (1..=pool).map(|host| Ipv4Addr::new(10, 240, number, host)).collect(),
        v6: Some(Place6 {
            address: vnet6(0, 3 + u16::from(number)),
            // The platform gives VMs single addresses: everything else is behind its gateway.
            prefix_len: 128,
            router: vnet6(0, 1),
            secondaries: (1..=pool).map(|host| vnet6(number.into(), host.into())).collect(),
        }),
    }
}

/// An address of [`VNET_PREFIX6`].
fn vnet6(subnet: u16, host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0x10, 0x240, subnet, 0, 0, 0, host)
}

/// A host of the peered VNet.
pub(crate) fn peer() -> Place {
    let v6 = Place6 {
        address: Ipv6Addr::new(0xfd00, 0x10, 0x250, 0, 0, 0, 0, 0x10),
        prefix_len: 128,
        router: Ipv6Addr::new(0xfd00, 0x10, 0x250, 0, 0, 0, 0, 1),
        secondaries: Vec::new(),
    };
    other("peer", 0xfa, [10, 250, 0, 10], 16, Some(v6))
}

/// A host of the Internet (RFC 5737, TEST-NET-2; RFC 3849).
pub(crate) fn internet() -> Place {
    let v6 = Place6 {
        address: Ipv6Addr::new(0x2001, 0xdb8, 0x51, 0, 0, 0, 0, 0x10),
        prefix_len: 64,
        router: Ipv6Addr::new(0x2001, 0xdb8, 0x51, 0, 0, 0, 0, 1),
        secondaries: Vec::new(),
    };
    other("internet", 0xfb, [198, 51, 100, 10], 24, Some(v6))
}

/// The platform's wire server: DNS, the host agent, and the source of load-balancer probes. It speaks IPv4 alone: IPv6
/// probes come from the router's own [`GATEWAY6`].
pub(crate) fn platform() -> Place {
    other("platform", 0xfc, [168, 63, 129, 16], 24, None)
}

fn other(name: &str, number: u8, address: [u8; 4], prefix_len: u8, v6: Option<Place6>) -> Place {
    let address = Ipv4Addr::from(address);
    let host_bits = u32::MAX >> prefix_len;
    Place {
        name: name.into(),
        mac: [0x00, 0x0d, 0x3a, 0xf9, 0x00, number],
        address,
        prefix_len,
        gateway: Ipv4Addr::from_bits((address.to_bits() & !host_bits) + 1),
        secondaries: Vec::new(),
        v6,
    }
}

/// The MAC as `ip` writes it.
pub(crate) fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_machines_share_an_address() {
        let mut places: Vec<Place> = (0..MAX_VMS).map(|index| vm(index, MAX_POOL)).collect();
        places.extend([peer(), internet(), platform()]);
        let addresses_of = |place: &Place| -> Vec<IpAddr> {
            let all = |delivery: Delivery| [delivery.secondaries, vec![delivery.address, delivery.router]].concat();
            place.deliveries().flat_map(all).collect()
        };
        let mut addresses: Vec<IpAddr> = places.iter().flat_map(addresses_of).collect();
        let shared_routers = 2 * (usize::from(MAX_VMS) - 1);
        let total = addresses.len() - shared_routers;
        addresses.sort();
        addresses.dedup();
        assert_eq!(addresses.len(), total);
    }

    #[test]
    fn no_two_machines_share_a_mac() {
        let mut macs: Vec<_> = (0..MAX_VMS).map(|index| vm(index, 0).mac).collect();
        macs.extend([peer().mac, internet().mac, platform().mac]);
        let total = macs.len();
        macs.sort();
        macs.dedup();
        assert_eq!(macs.len(), total);
    }
}
