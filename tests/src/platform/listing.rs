//! The platform's listing of a VM's interface, in both forms.

use std::{
    collections::BTreeMap,
    fmt::{Display, Write},
    net::IpAddr,
};

use serde_json::{Value, json};

use crate::plan::{Delivery, Place, VNET_PREFIX, VNET_PREFIX6};

/// A VM's addresses; a test changes them as an operator of the platform does.
#[derive(Debug, Clone)]
pub struct Listing {
    mac: [u8; 6],
    subnets: Vec<Subnet>,
    /// Public addresses, by the private one that has them.
    public: BTreeMap<IpAddr, IpAddr>,
}

#[derive(Debug, Clone)]
struct Subnet {
    prefix: String,
    primary: Option<IpAddr>,
    secondaries: Vec<IpAddr>,
}

impl Listing {
    pub(crate) fn of(place: &Place) -> Self {
        let subnet = |Delivery { address, secondaries, .. }: Delivery| Subnet {
            prefix: if address.is_ipv4() { VNET_PREFIX } else { VNET_PREFIX6 }.into(),
            primary: Some(address),
            secondaries,
        };
        Self { mac: place.mac, subnets: place.deliveries().map(subnet).collect(), public: BTreeMap::new() }
    }

    /// Takes an address for pods away.
    ///
    /// # Panics
    /// If it is not listed.
    pub fn remove(&mut self, address: impl Into<IpAddr>) {
        let address = address.into();
        let held = self.subnets.iter_mut().find(|subnet| subnet.secondaries.contains(&address));
        held.unwrap_or_else(|| panic!("{address} is not listed")).secondaries.retain(|listed| *listed != address);
    }

    /// Lists an address for pods in the first subnet of its family.
    pub fn add(&mut self, address: impl Into<IpAddr>) {
        let address = address.into();
        let same_family = |subnet: &&mut Subnet| subnet.primary.is_some_and(|own| own.is_ipv4() == address.is_ipv4());
        self.subnets.iter_mut().find(same_family).expect("the VM has this family").secondaries.push(address);
    }

    /// Lists one more subnet, with addresses for pods.
    pub fn add_subnet(&mut self, prefix: &str, addresses: &[IpAddr]) {
        self.subnets.push(Subnet { prefix: prefix.into(), primary: None, secondaries: addresses.into() });
    }

    /// Makes another the VM's own IPv4 address.
    pub fn set_primary(&mut self, address: impl Into<IpAddr>) {
        self.subnets[0].primary = Some(address.into());
    }

    /// Gives an address a public one.
    pub fn publish(&mut self, address: impl Into<IpAddr>, public: impl Into<IpAddr>) {
        self.public.insert(address.into(), public.into());
    }

    /// As the wire server describes it (`type=getinterfaceinfov1`).
    pub fn xml(&self) -> String {
        let mut xml = format!("<Interfaces>\n  <Interface MacAddress=\"{}\" IsPrimary=\"true\">\n", self.mac());
        for Subnet { prefix, primary, secondaries } in &self.subnets {
            writeln!(xml, "    <IPSubnet Prefix=\"{prefix}\">").expect("a String takes all");
            let mut line = |address: &dyn Display, primary: bool| {
                writeln!(xml, "      <IPAddress Address=\"{address}\" IsPrimary=\"{primary}\"/>")
                    .expect("a String takes all");
            };
            primary.iter().for_each(|primary| line(primary, true));
            secondaries.iter().for_each(|secondary| line(secondary, false));
            xml += "    </IPSubnet>\n";
        }
        xml + "  </Interface>\n</Interfaces>\n"
    }

    /// As instance metadata describes it (`/metadata/instance/network`). It names no IPv6 subnet: they are /64 there.
    pub fn imds(&self) -> Value {
        let family = |is_v4: bool| {
            let subnets = self.subnets.iter().filter(|subnet| subnet.prefix.contains('.') == is_v4);
            let addresses = subnets.clone().filter_map(|subnet| subnet.primary);
            let addresses = addresses.chain(subnets.clone().flat_map(|subnet| subnet.secondaries.iter().copied()));
            let address = |address: IpAddr| {
                let public = self.public.get(&address).map(ToString::to_string).unwrap_or_default();
                json!({"privateIpAddress": address, "publicIpAddress": public})
            };
            let prefix = |subnet: &Subnet| {
                let (address, prefix) = subnet.prefix.split_once('/').expect("a prefix has a length");
                json!({"address": address, "prefix": prefix})
            };
            let mut family = json!({"ipAddress": addresses.map(address).collect::<Vec<_>>()});
            if is_v4 {
                family["subnet"] = subnets.map(prefix).collect();
            }
            family
        };
        json!({"interface": [{"ipv4": family(true), "ipv6": family(false), "macAddress": self.mac()}]})
    }

    fn mac(&self) -> String {
        self.mac.iter().map(|byte| format!("{byte:02X}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::vm;

    #[test]
    fn the_wire_server_s_form_is_the_platform_s() {
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
        assert_eq!(Listing::of(&vm(0, 2).in_network(false)).xml(), expected);
    }

    #[test]
    fn dual_stack_pool_lists_both_subnets_in_one_interface() {
        let xml = Listing::of(&vm(1, 1).in_network(true)).xml();
        let v6 = r#"    <IPSubnet Prefix="fd00:10:240::/48">
      <IPAddress Address="fd00:10:240::5" IsPrimary="true"/>
      <IPAddress Address="fd00:10:240:2::1" IsPrimary="false"/>
    </IPSubnet>
"#;
        assert!(xml.contains("<IPSubnet Prefix=\"10.240.0.0/16\">"), "{xml}");
        assert!(xml.contains(v6), "{xml}");
        assert_eq!(xml.matches("<Interface ").count(), 1);
    }

    #[test]
    fn instance_metadata_lists_public_addresses() {
        let mut listing = Listing::of(&vm(0, 2).in_network(false));
        listing.publish([10, 240, 1, 2], [198, 51, 100, 77]);
        listing.remove([10, 240, 1, 1]);
        assert_eq!(
            listing.imds(),
            json!({"interface": [{
                "ipv4": {"ipAddress": [{"privateIpAddress": "10.240.0.4", "publicIpAddress": ""},
                                       {"privateIpAddress": "10.240.1.2", "publicIpAddress": "198.51.100.77"}],
                         "subnet": [{"address": "10.240.0.0", "prefix": "16"}]},
                "ipv6": {"ipAddress": []}, "macAddress": "000D3AF90001"}]})
        );
    }
}
