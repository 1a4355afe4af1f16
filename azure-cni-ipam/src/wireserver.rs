//! The listing of the platform's wire server: a VM's addresses in XML. The file source may have the same form.
//!
//! A document is used as a whole or not at all: a pod with a wrong address cannot be reached. Unknown parts are ignored,
//! because the platform may extend the form. A DTD is refused, and so are entities.

mod error;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::IpAddr;

use azure_cni_api::mac::MacAddress;
pub use error::{MAX_BYTES, ParseError, Position};
use ipnet::IpNet;
use roxmltree::{Document, Node, ParsingOptions};

use crate::nic::{Nic, NicMac, Subnet, subnet_lengths};

/// Twice an element and the text before it for each of 16,000 addresses.
const MAX_NODES: u32 = 65_536;

/// Reads the answer to `GET /machine/plugins?comp=nmagent&type=getinterfaceinfov1`.
pub fn parse(xml: &str) -> Result<Vec<Nic>, ParseError> {
    if xml.len() > MAX_BYTES {
        return Err(ParseError::TooLarge { bytes: xml.len() });
    }
    let document = Document::parse_with_options(xml, ParsingOptions { nodes_limit: MAX_NODES, ..Default::default() })?;
    let root = document.root_element();
    if !root.has_tag_name("Interfaces") {
        return Err(ParseError::Root { at: position(root), element: root.tag_name().name().to_owned() });
    }
    let mut first_listed = FirstListed::default();
    children(root, "Interface").map(|node| nic(node, &mut first_listed)).collect()
}

/// Where each interface and address was first listed, as byte offset.
#[derive(Default)]
struct FirstListed {
    nics: HashMap<NicMac, usize>,
    addresses: HashMap<IpAddr, usize>,
}

fn nic(node: Node, first_listed: &mut FirstListed) -> Result<Nic, ParseError> {
    let mac = nic_mac(node)?;
    once(node, &mut first_listed.nics, mac, "interface")?;
    let mut nic = Nic { mac, primary: is_primary(node)?, subnets: Vec::new() };
    let mut prefixes = HashMap::new();
    for child in children(node, "IPSubnet") {
        let prefix = subnet_prefix(child)?;
        once(child, &mut prefixes, prefix, "subnet")?;
        let mut subnet = Subnet { prefix, primary: None, secondaries: Vec::new(), public: Vec::new() };
        for node in children(child, "IPAddress") {
            add_address(node, &mut subnet, first_listed)?;
        }
        nic.subnets.push(subnet);
    }
    Ok(nic)
}

fn nic_mac(node: Node) -> Result<NicMac, ParseError> {
    match required(node, "MacAddress")? {
        "*" => Ok(NicMac::First),
        text => text
            .parse::<MacAddress>()
            .map(NicMac::Exact)
            .map_err(|_| malformed(node, "MacAddress", "is not a MAC address (twelve hex digits) and not \"*\"")),
    }
}

fn subnet_prefix(node: Node) -> Result<IpNet, ParseError> {
    let prefix: IpNet =
        required(node, "Prefix")?.parse().map_err(|_| malformed(node, "Prefix", "is not a prefix in CIDR form"))?;
    if prefix.addr() != prefix.network() {
        return Err(malformed(node, "Prefix", "has host bits set"));
    }
    if !subnet_lengths(&prefix).contains(&prefix.prefix_len()) {
        let problem = match prefix {
            IpNet::V4(_) => "is no subnet of a virtual network: its length is not in 2 to 30",
            IpNet::V6(_) => "is no subnet of a virtual network: its length is not in 3 to 126",
        };
        return Err(malformed(node, "Prefix", problem));
    }
    Ok(prefix)
}

fn add_address(node: Node, subnet: &mut Subnet, first_listed: &mut FirstListed) -> Result<(), ParseError> {
    let address: IpAddr =
        required(node, "Address")?.parse().map_err(|_| malformed(node, "Address", "is not an address"))?;
    match (address, subnet.prefix) {
        (IpAddr::V6(_), IpNet::V4(_)) => return Err(malformed(node, "Address", "is IPv6 in an IPv4 subnet")),
        (IpAddr::V4(_), IpNet::V6(_)) => return Err(malformed(node, "Address", "is IPv4 in an IPv6 subnet")),
        (IpAddr::V4(_), IpNet::V4(_)) | (IpAddr::V6(_), IpNet::V6(_)) => {}
    }
    if !subnet.prefix.contains(&address) {
        return Err(ParseError::OutsideSubnet { at: position(node), address, prefix: subnet.prefix });
    }
    once(node, &mut first_listed.addresses, address, "address")?;
    if !is_primary(node)? {
        subnet.secondaries.push(address);
    } else if let Some(first) = subnet.primary.replace(address) {
        return Err(ParseError::SecondPrimary { at: position(node), address, first, prefix: subnet.prefix });
    }
    Ok(())
}

/// Absent means no, as for `azure-vnet`.
fn is_primary(node: Node) -> Result<bool, ParseError> {
    match node.attribute("IsPrimary").map(str::to_ascii_lowercase).as_deref() {
        Some("true") => Ok(true),
        Some("false") | None => Ok(false),
        Some(_) => Err(malformed(node, "IsPrimary", "is neither \"true\" nor \"false\"")),
    }
}

fn children<'a, 'input>(node: Node<'a, 'input>, name: &'static str) -> impl Iterator<Item = Node<'a, 'input>> {
    node.children().filter(move |child| child.tag_name().name() == name)
}

fn required<'a>(node: Node<'a, '_>, attribute: &'static str) -> Result<&'a str, ParseError> {
    node.attribute(attribute).ok_or_else(|| ParseError::MissingAttribute {
        at: position(node),
        element: node.tag_name().name().to_owned(),
        attribute,
    })
}

fn once<T>(node: Node, first_listed: &mut HashMap<T, usize>, value: T, what: &'static str) -> Result<(), ParseError>
where
    T: Copy + Eq + std::hash::Hash + std::fmt::Display,
{
    match first_listed.insert(value, node.range().start) {
        None => Ok(()),
        Some(first) => Err(ParseError::Duplicate {
            at: position(node),
            what,
            value: value.to_string(),
            first: node.document().text_pos_at(first).into(),
        }),
    }
}

fn malformed(node: Node, attribute: &'static str, problem: &'static str) -> ParseError {
    let offset = node.attribute_node(attribute).map_or(node.range().start, |found| found.range().start);
    ParseError::Malformed {
        at: node.document().text_pos_at(offset).into(),
        element: node.tag_name().name().to_owned(),
        attribute,
        value: node.attribute(attribute).unwrap_or_default().to_owned(),
        problem,
    }
}

fn position(node: Node) -> Position {
    node.document().text_pos_at(node.range().start).into()
}
