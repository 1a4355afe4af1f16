//! The listing of the platform's instance metadata: a VM's addresses in JSON, and which of them have a public address.
//!
//! As with the wire server, a document is used as a whole or not at all, and unknown parts are ignored. The first address
//! of an interface and family is the VM's own (Azure, "Azure Instance Metadata Service": the primary is listed first).

mod error;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::net::IpAddr;

use azure_cni_api::mac::MacAddress;
pub use error::{ImdsError, MAX_BYTES};
use ipnet::IpNet;
use serde::Deserialize;

use crate::nic::{Nic, NicMac, Subnet, subnet_lengths};

/// The prefix length of every IPv6 subnet ("What is IPv6 for Azure Virtual Network?": /64 exactly). The document does not
/// name IPv6 subnets.
const IPV6_SUBNET_LENGTH: u8 = 64;

#[derive(Deserialize)]
struct Network {
    interface: Vec<Interface>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Interface {
    mac_address: String,
    #[serde(default)]
    ipv4: Family,
    #[serde(default)]
    ipv6: Family,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Family {
    ip_address: Vec<Address>,
    subnet: Vec<Prefix>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Address {
    private_ip_address: String,
    /// Empty if there is none.
    #[serde(default)]
    public_ip_address: String,
}

#[derive(Deserialize)]
struct Prefix {
    address: String,
    prefix: String,
}

/// Reads the answer to `GET /metadata/instance/network`.
pub fn parse(json: &str) -> Result<Vec<Nic>, ImdsError> {
    if json.len() > MAX_BYTES {
        return Err(ImdsError::TooLarge { bytes: json.len() });
    }
    let network: Network = serde_json::from_str(json)?;
    let (mut macs, mut addresses) = (HashSet::new(), HashSet::new());
    let mut nics = Vec::with_capacity(network.interface.len());
    for (index, interface) in network.interface.iter().enumerate() {
        let at = |rest: &str| format!("interface[{index}].{rest}");
        let mac: MacAddress = interface
            .mac_address
            .parse()
            .map_err(|_| ImdsError::malformed(at("macAddress"), &interface.mac_address, "is not a MAC address"))?;
        if !macs.insert(mac) {
            return Err(ImdsError::Duplicate { at: at("macAddress"), what: "interface", value: mac.to_string() });
        }
        let mut subnets = subnets(&interface.ipv4, true, &at("ipv4"), &mut addresses)?;
        subnets.extend(self::subnets(&interface.ipv6, false, &at("ipv6"), &mut addresses)?);
        // The primary NIC is listed first too.
        nics.push(Nic { mac: NicMac::Exact(mac), primary: index == 0, subnets });
    }
    Ok(nics)
}

/// One family of one interface: its subnets, and each address in the smallest of them that holds it.
fn subnets(family: &Family, is_v4: bool, at: &str, seen: &mut HashSet<IpAddr>) -> Result<Vec<Subnet>, ImdsError> {
    let mut subnets: Vec<Subnet> = Vec::with_capacity(family.subnet.len());
    for (index, listed) in family.subnet.iter().enumerate() {
        let prefix = prefix(listed, is_v4, &format!("{at}.subnet[{index}]"))?;
        if subnets.iter().all(|subnet| subnet.prefix != prefix) {
            subnets.push(empty(prefix));
        }
    }
    let named = !subnets.is_empty();
    for (index, listed) in family.ip_address.iter().enumerate() {
        let at = format!("{at}.ipAddress[{index}]");
        let address = address(&listed.private_ip_address, is_v4, &format!("{at}.privateIpAddress"))?;
        if !seen.insert(address) {
            return Err(ImdsError::Duplicate { at, what: "address", value: address.to_string() });
        }
        if let (false, IpAddr::V6(_)) = (named, address) {
            let prefix = IpNet::new(address, IPV6_SUBNET_LENGTH).expect("64 is a length of IPv6").trunc();
            if subnets.iter().all(|subnet| subnet.prefix != prefix) {
                subnets.push(empty(prefix));
            }
        }
        let holding = subnets.iter_mut().filter(|subnet| subnet.prefix.contains(&address));
        let subnet = holding.max_by_key(|subnet| subnet.prefix.prefix_len());
        let subnet = subnet.ok_or(ImdsError::OutsideSubnets { at, address })?;
        if !listed.public_ip_address.is_empty() {
            subnet.public.push(address);
        }
        match index {
            0 => subnet.primary = Some(address),
            _ => subnet.secondaries.push(address),
        }
    }
    Ok(subnets)
}

fn empty(prefix: IpNet) -> Subnet {
    Subnet { prefix, primary: None, secondaries: Vec::new(), public: Vec::new() }
}

fn prefix(listed: &Prefix, is_v4: bool, at: &str) -> Result<IpNet, ImdsError> {
    let base = address(&listed.address, is_v4, &format!("{at}.address"))?;
    let malformed = |problem| ImdsError::malformed(format!("{at}.prefix"), &listed.prefix, problem);
    let length: u8 = listed.prefix.parse().map_err(|_| malformed("is not the length of a prefix"))?;
    let prefix = IpNet::new(base, length).map_err(|_| malformed("is longer than an address"))?;
    if !subnet_lengths(&prefix).contains(&length) {
        return Err(malformed("is no length of a virtual network's subnet"));
    }
    if prefix.addr() != prefix.network() {
        return Err(ImdsError::malformed(format!("{at}.address"), &listed.address, "has host bits set"));
    }
    Ok(prefix)
}

fn address(text: &str, is_v4: bool, at: &str) -> Result<IpAddr, ImdsError> {
    match text.parse::<IpAddr>() {
        Ok(address) if address.is_ipv4() == is_v4 => Ok(address),
        Ok(_) => Err(ImdsError::malformed(at.to_owned(), text, "is of the other family")),
        Err(_) => Err(ImdsError::malformed(at.to_owned(), text, "is not an address")),
    }
}
