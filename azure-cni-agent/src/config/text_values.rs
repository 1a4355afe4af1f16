//! Values of the file that are text and have to be right as text: interface names, addresses, prefixes.
//!
//! Only IPv4 is served today. An IPv6 value is understood, and refused with words that say so, so that nobody
//! believes it took effect.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use serde::de::{Deserialize, Deserializer, Error};

use crate::cni::InterfaceName;
use crate::cni::attachment::InvalidName;

pub(super) fn interface<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<InterfaceName>, D::Error> {
    let text = String::deserialize(deserializer)?;
    // The type's own error speaks of the CNI invocation it was made for.
    let name = text.parse().map_err(|invalid| match invalid {
        InvalidName::Interface { value, problem, .. } => format!("interface name {value:?} {problem}"),
        InvalidName::Empty { .. } | InvalidName::Pattern { .. } => format!("{text:?} is not an interface name"),
    });
    name.map(Some).map_err(D::Error::custom)
}

pub(super) fn prefixes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Ipv4Net>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| prefix(text)).collect::<Result<_, _>>().map_err(D::Error::custom)
}

pub(super) fn known_prefixes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Ipv4Net>>, D::Error> {
    prefixes(deserializer).map(Some)
}

pub(super) fn addresses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Ipv4Addr>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| address(text)).collect::<Result<_, _>>().map_err(D::Error::custom)
}

pub(super) fn any_addresses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpAddr>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let read = |text: &String| text.parse().map_err(|_| format!("{text:?} is not an address, as in \"10.240.0.9\""));
    texts.iter().map(read).collect::<Result<_, _>>().map_err(D::Error::custom)
}

fn prefix(text: &str) -> Result<Ipv4Net, String> {
    match text.parse::<IpNet>() {
        Ok(IpNet::V4(net)) if net.addr() != net.network() => {
            Err(format!("prefix {text:?} has host bits set; the prefix of that length is \"{}\"", net.trunc()))
        }
        Ok(IpNet::V4(net)) => Ok(net),
        Ok(IpNet::V6(_)) => Err(format!("prefix {text:?} is IPv6, which is not served yet; remove it")),
        Err(_) => Err(format!("{text:?} is not a prefix, as in \"10.240.0.0/16\"")),
    }
}

fn address(text: &str) -> Result<Ipv4Addr, String> {
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => Ok(address),
        Ok(IpAddr::V6(_)) => Err(format!("address {text:?} is IPv6, which is not served yet; remove it")),
        Err(_) => Err(format!("{text:?} is not an address, as in \"169.254.20.10\"")),
    }
}
