//! The listing of the platform's wire server: a VM's addresses in XML. The file source may have the same form.
//!
//! What is odd is left out and reported: an address without its attributes, a subnet with its addresses, an interface as a
//! whole. Unknown parts are ignored, because the platform may extend the form. A DTD is refused, and so are entities.

mod error;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use azure_cni_api::mac::MacAddress;
pub use error::{MAX_BYTES, ParseError, Position};
use ipnet::IpNet;
use roxmltree::{Document, Node, ParsingOptions};

use crate::nic::{Listing, Nic, NicMac, Subnet, subnet_lengths};
use crate::oddity::Oddities;

/// Twice an element and the text before it for each of 16,000 addresses.
const MAX_NODES: u32 = 65_536;

/// Reads the answer to `GET /machine/plugins?comp=nmagent&type=getinterfaceinfov1`.
pub fn parse(xml: &str) -> Result<Listing, ParseError> {
    if xml.len() > MAX_BYTES {
        return Err(ParseError::TooLarge { bytes: xml.len() });
    }
    let document = Document::parse_with_options(xml, ParsingOptions { nodes_limit: MAX_NODES, ..Default::default() })?;
    let root = document.root_element();
    if !root.has_tag_name("Interfaces") {
        return Err(ParseError::Root { at: position(root), element: root.tag_name().name().to_owned() });
    }
    let mut listing = Listing::default();
    for node in children(root, "Interface") {
        listing.nics.extend(nic(node, &mut listing.oddities));
    }
    Ok(listing)
}

fn nic(node: Node, oddities: &mut Oddities) -> Option<Nic> {
    let mac = nic_mac(node, oddities)?;
    // What is said of the interface as a whole decides nothing.
    let primary = is_primary(node, oddities).unwrap_or(false);
    let mut nic = Nic { mac, primary, subnets: Vec::new() };
    for child in children(node, "IPSubnet") {
        let Some(prefix) = subnet_prefix(child, oddities) else { continue };
        // One that is listed twice is one subnet.
        let at = nic.subnets.iter().position(|subnet| subnet.prefix == prefix).unwrap_or_else(|| {
            nic.subnets.push(Subnet { prefix, primary: None, secondaries: Vec::new(), public: Vec::new() });
            nic.subnets.len() - 1
        });
        for node in children(child, "IPAddress") {
            add_address(node, &mut nic.subnets[at], oddities);
        }
    }
    Some(nic)
}

fn nic_mac(node: Node, oddities: &mut Oddities) -> Option<NicMac> {
    match required(node, "MacAddress", oddities)? {
        "*" => Some(NicMac::First),
        text => {
            let mac = text.parse::<MacAddress>().ok().map(NicMac::Exact);
            let problem = "is not a MAC address (twelve hex digits) and not \"*\"";
            mac.or_else(|| odd(node, "MacAddress", problem, oddities))
        }
    }
}

fn subnet_prefix(node: Node, oddities: &mut Oddities) -> Option<IpNet> {
    let problem = match required(node, "Prefix", oddities)?.parse::<IpNet>() {
        Err(_) => "is not a prefix in CIDR form",
        Ok(prefix) if prefix.addr() != prefix.network() => "has host bits set",
        Ok(prefix) if subnet_lengths(&prefix).contains(&prefix.prefix_len()) => return Some(prefix),
        Ok(IpNet::V4(_)) => "is no subnet of a virtual network: its length is not in 2 to 30",
        Ok(IpNet::V6(_)) => "is no subnet of a virtual network: its length is not in 3 to 126",
    };
    odd(node, "Prefix", problem, oddities)
}

fn add_address(node: Node, subnet: &mut Subnet, oddities: &mut Oddities) -> Option<()> {
    let address: Option<IpAddr> = required(node, "Address", oddities)?.parse().ok();
    let Some(address) = address else { return odd(node, "Address", "is not an address", oddities) };
    match (address, subnet.prefix) {
        (IpAddr::V6(_), IpNet::V4(_)) => return odd(node, "Address", "is IPv6 in an IPv4 subnet", oddities),
        (IpAddr::V4(_), IpNet::V6(_)) => return odd(node, "Address", "is IPv4 in an IPv6 subnet", oddities),
        (IpAddr::V4(_), IpNet::V4(_)) | (IpAddr::V6(_), IpNet::V6(_)) => {}
    }
    if !subnet.prefix.contains(&address) {
        let (at, prefix) = (position(node), subnet.prefix);
        oddities.push(&format!("{at}: address {address} lies outside of its subnet {prefix}; it is not used"));
        return None;
    }
    // An address that may be the VM's own is no pod's.
    if !is_primary(node, oddities)? {
        subnet.secondaries.push(address);
    } else if let Some(first) = subnet.primary.filter(|first| *first != address) {
        let (at, prefix) = (position(node), subnet.prefix);
        oddities.push(&format!(
            "{at}: address {address} is a second primary address of subnet {prefix}, after {first}; it is not used"
        ));
    } else {
        subnet.primary = Some(address);
    }
    Some(())
}

/// Absent means no, as for `azure-vnet`.
fn is_primary(node: Node, oddities: &mut Oddities) -> Option<bool> {
    match node.attribute("IsPrimary").map(str::to_ascii_lowercase).as_deref() {
        Some("true") => Some(true),
        Some("false") | None => Some(false),
        Some(_) => odd(node, "IsPrimary", "is neither \"true\" nor \"false\"", oddities),
    }
}

fn children<'a, 'input>(node: Node<'a, 'input>, name: &'static str) -> impl Iterator<Item = Node<'a, 'input>> {
    node.children().filter(move |child| child.tag_name().name() == name)
}

fn required<'a>(node: Node<'a, '_>, attribute: &'static str, oddities: &mut Oddities) -> Option<&'a str> {
    let value = node.attribute(attribute);
    if value.is_none() {
        let (at, element) = (position(node), node.tag_name().name());
        oddities.push(&format!("{at}: <{element}> has no attribute {attribute}; it is not used"));
    }
    value
}

fn odd<T>(node: Node, attribute: &'static str, problem: &str, oddities: &mut Oddities) -> Option<T> {
    let offset = node.attribute_node(attribute).map_or(node.range().start, |found| found.range().start);
    let (at, element) = (Position::from(node.document().text_pos_at(offset)), node.tag_name().name());
    let value = format!("{:?}", node.attribute(attribute).unwrap_or_default());
    oddities.value(&format!("{at}: <{element}> {attribute}"), &value, problem);
    None
}

/// Walks over the whole text before it: for what is odd only.
fn position(node: Node) -> Position {
    node.document().text_pos_at(node.range().start).into()
}
