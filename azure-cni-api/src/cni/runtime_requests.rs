//! What the runtime requests for a pod beyond the network's settings: certain addresses, a public one, a MAC address.
//!
//! The rule: each can be given in several places. Places that agree count as one request. Places that contradict each other
//! are refused, because the runtime could not know which of them took effect.

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use ipnet::IpNet;

use super::args::CniArgs;
use super::error::{CniError, excerpt};
use super::fields::Fields;
use crate::address_request::AddressRequest;
use crate::mac::{HOST_MAC, MacAddress};

/// The capability through which a runtime passes on a pod's annotations.
pub(super) const ANNOTATIONS: &str = "io.kubernetes.cri.pod-annotations";
/// The annotation by which a pod requests an address that has a public one: `"true"` or `"false"`.
pub const PUBLIC_ANNOTATION: &str = "azure-cni-ebpf/public-address";
/// The same as a key of the network configuration, and of `args.cni` and `CNI_ARGS` for one pod.
const PUBLIC_KEY: &str = "publicAddress";

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct RuntimeRequests {
    pub(super) address_request: AddressRequest,
    pub(super) mac: Option<[u8; 6]>,
}

impl RuntimeRequests {
    /// `config` is the network configuration; `args` combines `args.cni` and `CNI_ARGS`.
    pub(super) fn read(config: &Fields, args: &CniArgs) -> Result<Self, CniError> {
        let runtime = config.object("runtimeConfig")?;
        let cni = config.object("args")?.map(|args| args.object("cni")).transpose()?.flatten();
        let addresses = addresses(config, runtime.as_ref(), cni.as_ref(), args)?;
        let public = public(config, runtime.as_ref(), args)?;
        Ok(Self { address_request: AddressRequest { addresses, public }, mac: mac(runtime.as_ref(), args)? })
    }
}

fn addresses(
    config: &Fields,
    runtime: Option<&Fields>,
    cni: Option<&Fields>,
    args: &CniArgs,
) -> Result<Vec<IpAddr>, CniError> {
    let of_list = |fields: Option<&Fields>| -> Result<Vec<(String, String)>, CniError> {
        let Some(fields) = fields else { return Ok(vec![]) };
        Ok(fields.strings("ips")?.into_iter().map(|text| (fields.path("ips"), text.to_owned())).collect())
    };
    let mut given = of_list(runtime)?;
    let of_args = of_list(cni)?;
    // `args.cni` wins over `CNI_ARGS`, which calls the same thing `IP`.
    if of_args.is_empty() {
        let texts = args.get("IP").into_iter().flat_map(|texts| texts.split(','));
        given.extend(texts.map(|text| ("IP of CNI_ARGS".to_owned(), text.to_owned())));
    }
    given.extend(of_args);
    if let Some(ipam) = config.object("ipam")?
        && let Some(text) = ipam.string("ipAddress")?
    {
        given.push((ipam.path("ipAddress"), text.to_owned()));
    }
    let mut wanted: Vec<(String, IpAddr)> = Vec::new();
    for (place, text) in given {
        let address = address(&place, text.trim())?;
        match wanted.iter().find(|(_, other)| other.is_ipv4() == address.is_ipv4()) {
            Some((_, other)) if *other == address => {}
            Some((before, other)) => {
                let msg =
                    format!("{place} requests {address} and {before} requests {other}: a pod gets one of each family");
                return Err(CniError::invalid_config(msg));
            }
            None => wanted.push((place, address)),
        }
    }
    wanted.sort_by_key(|(_, address)| address.is_ipv6());
    Ok(wanted.into_iter().map(|(_, address)| address).collect())
}

/// Reads an address with or without a prefix length, which has no meaning here.
fn address(place: &str, text: &str) -> Result<IpAddr, CniError> {
    let parsed = text.parse().ok().or_else(|| text.parse().ok().map(|net: IpNet| net.addr()));
    let usable = |address: &IpAddr| {
        let broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
        !(address.is_unspecified() || address.is_loopback() || address.is_multicast() || broadcast)
    };
    parsed.filter(usable).ok_or_else(|| {
        CniError::invalid_config(format!(
            "{place} has {}, which is not an address that a pod can have",
            excerpt(&text.into())
        ))
    })
}

/// What the pod says wins over what the network says.
fn public(config: &Fields, runtime: Option<&Fields>, args: &CniArgs) -> Result<bool, CniError> {
    let annotations = runtime.map(|runtime| runtime.object(ANNOTATIONS)).transpose()?.flatten();
    let annotation = annotations.as_ref().map(|all| all.string(PUBLIC_ANNOTATION)).transpose()?.flatten();
    let given = annotation.map(|text| (format!("annotation {PUBLIC_ANNOTATION}"), text));
    let given =
        given.or_else(|| args.get(PUBLIC_KEY).map(|text| (format!("{PUBLIC_KEY} of the pod's arguments"), text)));
    match given {
        None => config.flag(PUBLIC_KEY),
        Some((_, "true")) => Ok(true),
        Some((_, "false")) => Ok(false),
        Some((place, other)) => {
            let msg = format!("{place} is {}, neither \"true\" nor \"false\"", excerpt(&other.into()));
            Err(CniError::invalid_config(msg))
        }
    }
}

fn mac(runtime: Option<&Fields>, args: &CniArgs) -> Result<Option<[u8; 6]>, CniError> {
    let of_runtime = runtime.map(|runtime| runtime.string("mac")).transpose()?.flatten();
    let given = [
        of_runtime.map(|text| ("runtimeConfig.mac", text)),
        args.get("mac").map(|text| ("mac of args.cni", text)),
        args.get("MAC").map(|text| ("MAC of CNI_ARGS", text)),
    ];
    let mut wanted: Option<(&str, [u8; 6])> = None;
    for (place, text) in given.into_iter().flatten() {
        let mac = unicast(place, text)?;
        match wanted {
            Some((before, other)) if other != mac => {
                let msg = format!("{place} requests {text} and {before} requests {}", MacAddress(other));
                return Err(CniError::invalid_config(msg));
            }
            _ => wanted = Some((place, mac)),
        }
    }
    Ok(wanted.map(|(_, mac)| mac))
}

/// An address that one interface can have (IEEE 802: the I/G bit is clear), and that is not its gateway's.
fn unicast(place: &str, text: &str) -> Result<[u8; 6], CniError> {
    let refused =
        |why: String| CniError::invalid_config(format!("{place} has {}", excerpt(&text.into()))).with_details(why);
    let MacAddress(mac) = text.parse().map_err(|error| refused(format!("{error}")))?;
    match mac {
        [0, 0, 0, 0, 0, 0] => Err(refused("it is all zeros".to_owned())),
        HOST_MAC => Err(refused("host interfaces have it".to_owned())),
        [first, ..] if first & 1 == 1 => Err(refused("it is a group address".to_owned())),
        _ => Ok(mac),
    }
}
