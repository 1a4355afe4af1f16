//! The listing of the platform's instance metadata: a VM's addresses in JSON, and which of them have a public address.
//!
//! As with the wire server, what is odd is left out and reported, and unknown parts are ignored: each part is read when its
//! turn comes, so that one that cannot be read spoils no other. The first address of an interface and family is the VM's own
//! (Azure, "Azure Instance Metadata Service": the primary is listed first).

mod error;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use azure_cni_api::mac::MacAddress;
pub use error::{ImdsError, MAX_BYTES};
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::nic::{Listing, Nic, NicMac, Subnet, subnet_lengths};
use crate::oddity::Oddities;

/// The prefix length of every IPv6 subnet ("What is IPv6 for Azure Virtual Network?": /64 exactly). The document does not
/// name IPv6 subnets.
const IPV6_SUBNET_LENGTH: u8 = 64;

/// A part of the document that is there and not null.
type Part<'a> = Option<&'a RawValue>;

#[derive(Deserialize)]
struct Network<'a> {
    #[serde(borrow)]
    interface: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Interface<'a> {
    #[serde(borrow)]
    mac_address: Part<'a>,
    #[serde(borrow)]
    ipv4: Part<'a>,
    #[serde(borrow)]
    ipv6: Part<'a>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Family<'a> {
    #[serde(borrow)]
    ip_address: Part<'a>,
    #[serde(borrow)]
    subnet: Part<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Address<'a> {
    #[serde(borrow)]
    private_ip_address: Part<'a>,
    /// Empty if there is none.
    #[serde(borrow)]
    public_ip_address: Part<'a>,
}

#[derive(Deserialize)]
struct Prefix<'a> {
    #[serde(borrow)]
    address: Part<'a>,
    #[serde(borrow)]
    prefix: Part<'a>,
}

/// Reads the answer to `GET /metadata/instance/network`.
pub fn parse(json: &str) -> Result<Listing, ImdsError> {
    if json.len() > MAX_BYTES {
        return Err(ImdsError::TooLarge { bytes: json.len() });
    }
    let network: Network = serde_json::from_str(json)?;
    let mut listing = Listing::default();
    for (index, raw) in network.interface.into_iter().enumerate() {
        // The primary NIC is listed first too.
        let nic = nic(raw, index == 0, &format!("interface[{index}]"), &mut listing.oddities);
        listing.nics.extend(nic);
    }
    Ok(listing)
}

fn nic(raw: &RawValue, primary: bool, at: &str, oddities: &mut Oddities) -> Option<Nic> {
    let interface: Interface = read(Some(raw), at, "is not an interface", oddities)?;
    let text: String = read(interface.mac_address, &format!("{at}.macAddress"), "is not a MAC address", oddities)?;
    let Ok(mac) = text.parse::<MacAddress>() else {
        oddities.value(&format!("{at}.macAddress"), &format!("{text:?}"), "is not a MAC address");
        return None;
    };
    let mut family = |part: Part, is_v4, at: String| {
        let family = part.and_then(|part| read::<Family>(Some(part), &at, "is not a family", oddities));
        subnets(&family.unwrap_or_default(), is_v4, &at, oddities)
    };
    let mut subnets = family(interface.ipv4, true, format!("{at}.ipv4"));
    subnets.extend(family(interface.ipv6, false, format!("{at}.ipv6")));
    Some(Nic { mac: NicMac::Exact(mac), primary, subnets })
}

/// One family of one interface: its subnets, and each address in the smallest of them that holds it.
fn subnets(family: &Family, is_v4: bool, at: &str, oddities: &mut Oddities) -> Vec<Subnet> {
    let mut subnets: Vec<Subnet> = Vec::new();
    for (index, raw) in list(family.subnet, &format!("{at}.subnet"), oddities).into_iter().enumerate() {
        let prefix = prefix(raw, is_v4, &format!("{at}.subnet[{index}]"), oddities);
        if let Some(prefix) = prefix.filter(|prefix| subnets.iter().all(|subnet| subnet.prefix != *prefix)) {
            subnets.push(empty(prefix));
        }
    }
    let named = !subnets.is_empty();
    for (index, raw) in list(family.ip_address, &format!("{at}.ipAddress"), oddities).into_iter().enumerate() {
        let at = format!("{at}.ipAddress[{index}]");
        let Some((address, is_public)) = listed_address(raw, is_v4, &at, oddities) else { continue };
        if let (false, IpAddr::V6(_)) = (named, address) {
            let prefix = IpNet::new(address, IPV6_SUBNET_LENGTH).expect("64 is a length of IPv6").trunc();
            if subnets.iter().all(|subnet| subnet.prefix != prefix) {
                subnets.push(empty(prefix));
            }
        }
        let holding = subnets.iter_mut().filter(|subnet| subnet.prefix.contains(&address));
        let Some(subnet) = holding.max_by_key(|subnet| subnet.prefix.prefix_len()) else {
            oddities.push(&format!("{at}: address {address} lies in none of the interface's subnets; it is not used"));
            continue;
        };
        if is_public {
            subnet.public.push(address);
        }
        match index {
            0 => subnet.primary = Some(address),
            _ => subnet.secondaries.push(address),
        }
    }
    subnets
}

fn empty(prefix: IpNet) -> Subnet {
    Subnet { prefix, primary: None, secondaries: Vec::new(), public: Vec::new() }
}

/// An address, and whether it has a public one.
fn listed_address(raw: &RawValue, is_v4: bool, at: &str, oddities: &mut Oddities) -> Option<(IpAddr, bool)> {
    let listed: Address = read(Some(raw), at, "is not an address with its public one", oddities)?;
    let address = address(listed.private_ip_address, is_v4, &format!("{at}.privateIpAddress"), oddities)?;
    let Some(public) = listed.public_ip_address else { return Some((address, false)) };
    let text: Option<String> = serde_json::from_str(public.get()).ok();
    let is_public = text.as_ref().is_some_and(|text| text.parse::<IpAddr>().is_ok());
    if !is_public && text.is_none_or(|text| !text.is_empty()) {
        oddities.value(&format!("{at}.publicIpAddress"), public.get(), "is not an address");
    }
    Some((address, is_public))
}

fn prefix(raw: &RawValue, is_v4: bool, at: &str, oddities: &mut Oddities) -> Option<IpNet> {
    let listed: Prefix = read(Some(raw), at, "is not a subnet", oddities)?;
    let base = address(listed.address, is_v4, &format!("{at}.address"), oddities)?;
    let value = listed.prefix.map_or("null", RawValue::get);
    // As a number it says the same.
    let length = value.trim_matches('"').parse::<u8>().ok();
    let mut refused = |problem| {
        oddities.value(&format!("{at}.prefix"), value, problem);
        None
    };
    let Some(length) = length else { return refused("is not the length of a prefix") };
    let Ok(prefix) = IpNet::new(base, length) else { return refused("is longer than an address") };
    if !subnet_lengths(&prefix).contains(&length) {
        return refused("is no length of a virtual network's subnet");
    }
    if prefix.addr() != prefix.network() {
        oddities.value(&format!("{at}.address"), &format!("{base}"), "has host bits set");
        return None;
    }
    Some(prefix)
}

fn address(part: Part, is_v4: bool, at: &str, oddities: &mut Oddities) -> Option<IpAddr> {
    let text: String = read(part, at, "is not an address", oddities)?;
    let problem = match text.parse::<IpAddr>() {
        Ok(address) if address.is_ipv4() == is_v4 => return Some(address),
        Ok(_) => "is of the other family",
        Err(_) => "is not an address",
    };
    oddities.value(at, &format!("{text:?}"), problem);
    None
}

/// The elements of a list. Absent and null mean that there are none.
fn list<'a>(part: Part<'a>, at: &str, oddities: &mut Oddities) -> Vec<&'a RawValue> {
    part.and_then(|part| read(Some(part), at, "is not a list", oddities)).unwrap_or_default()
}

fn read<'a, T: Deserialize<'a>>(part: Part<'a>, at: &str, problem: &str, oddities: &mut Oddities) -> Option<T> {
    let Some(raw) = part else {
        oddities.value(at, "null", problem);
        return None;
    };
    serde_json::from_str(raw.get()).inspect_err(|_| oddities.value(at, raw.get(), problem)).ok()
}
