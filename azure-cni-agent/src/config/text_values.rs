//! Values that are text of a certain form: interface names, and addresses and prefixes of either family.

use std::net::IpAddr;

use azure_cni_api::cni::InterfaceName;
use azure_cni_api::cni::attachment::InvalidName;
use ipnet::IpNet;
use serde::de::{Deserialize, Deserializer, Error};

pub(super) fn interface<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<InterfaceName>, D::Error> {
    let text = String::deserialize(deserializer)?;
    // The type's own error describes a CNI invocation.
    let name = text.parse().map_err(|invalid| match invalid {
        InvalidName::Interface { value, problem, .. } => format!("interface name {value:?} {problem}"),
        InvalidName::Empty { .. } | InvalidName::Pattern { .. } => format!("{text:?} is not an interface name"),
    });
    name.map(Some).map_err(D::Error::custom)
}

pub(super) fn prefixes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| prefix(text)).collect::<Result<_, _>>().map_err(D::Error::custom)
}

pub(super) fn optional_prefixes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<IpNet>>, D::Error> {
    prefixes(deserializer).map(Some)
}

pub(super) fn addresses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpAddr>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| address(text)).collect::<Result<_, _>>().map_err(D::Error::custom)
}

fn prefix(text: &str) -> Result<IpNet, String> {
    match text.parse::<IpNet>() {
        Ok(net) if net.addr() != net.network() => {
            Err(format!("prefix {text:?} has host bits set; the prefix of that length is \"{}\"", net.trunc()))
        }
        Ok(net) => Ok(net),
        Err(_) => Err(format!("{text:?} is not a prefix, as in \"10.240.0.0/16\" or \"fd00:240::/64\"")),
    }
}

fn address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is not an address, as in \"169.254.20.10\" or \"fd00::10\""))
}
