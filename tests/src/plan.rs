//! Who has which address. Pure: no namespace is touched here.
//!
//! As on the platform, a VM's interface carries only its primary address; the secondary ones are for its pods and are
//! known to the fabric, which delivers them to the VM's MAC.

use std::{fmt::Write, net::Ipv4Addr};

/// The VNet that the VMs are in.
pub const VNET_PREFIX: &str = "10.240.0.0/16";
/// A peered VNet: pods keep their own address towards it.
pub const PEERED_PREFIX: &str = "10.250.0.0/16";
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
    }
}

/// A host of the peered VNet.
pub(crate) fn peer() -> Place {
    other("peer", 0xfa, [10, 250, 0, 10], 16)
}

/// A host of the Internet (RFC 5737, TEST-NET-2).
pub(crate) fn internet() -> Place {
    other("internet", 0xfb, [198, 51, 100, 10], 24)
}

/// The platform's wire server: DNS, the host agent, and the source of load-balancer probes.
pub(crate) fn platform() -> Place {
    other("platform", 0xfc, [168, 63, 129, 16], 24)
}

fn other(name: &str, number: u8, address: [u8; 4], prefix_len: u8) -> Place {
    let address = Ipv4Addr::from(address);
    let host_bits = u32::MAX >> prefix_len;
    Place {
        name: name.into(),
        mac: [0x00, 0x0d, 0x3a, 0xf9, 0x00, number],
        address,
        prefix_len,
        gateway: Ipv4Addr::from_bits((address.to_bits() & !host_bits) + 1),
        secondaries: Vec::new(),
    }
}

/// The MAC as `ip` writes it.
pub(crate) fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// The pool of a VM as the platform's wire server describes it (`type=getinterfaceinfov1`).
pub(crate) fn wire_server_xml(place: &Place) -> String {
    let mac: String = place.mac.iter().map(|byte| format!("{byte:02X}")).collect();
    let mut xml = format!(
        "<Interfaces>\n  <Interface MacAddress=\"{mac}\" IsPrimary=\"true\">\n    <IPSubnet Prefix=\"{VNET_PREFIX}\">\n      \
         <IPAddress Address=\"{}\" IsPrimary=\"true\"/>\n",
        place.address
    );
    for address in &place.secondaries {
        writeln!(xml, "      <IPAddress Address=\"{address}\" IsPrimary=\"false\"/>").expect("a String takes all");
    }
    xml + "    </IPSubnet>\n  </Interface>\n</Interfaces>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_machines_share_an_address() {
        let mut places: Vec<Place> = (0..MAX_VMS).map(|index| vm(index, MAX_POOL)).collect();
        places.extend([peer(), internet(), platform()]);
        let mut addresses: Vec<Ipv4Addr> = places
            .iter()
            .flat_map(|place| place.secondaries.iter().copied().chain([place.address, place.gateway]))
            .collect();
        let shared_gateway = usize::from(MAX_VMS) - 1;
        let total = addresses.len() - shared_gateway;
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

    #[test]
    fn pool_file_is_what_the_wire_server_would_answer() {
        let expected = r#"<Interfaces>
  <Interface MacAddress="000D3AF90001" IsPrimary="true">
    <IPSubnet Prefix="10.240.0.0/16">
      <IPAddress Address="10.240.0.4" IsPrimary="true"/>
      <IPAddress Address="10.240.1.1" IsPrimary="false"/>
      <IPAddress Address="10.240.1.2" IsPrimary="false"/>
    </IPSubnet>
  </Interface>
</Interfaces>
"#;
        assert_eq!(wire_server_xml(&vm(0, 2)), expected);
    }
}
