//! Answers of azure-cns, in either form. An answer is used as a whole or not at all.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;

use crate::addresses::Addresses;

/// The addresses that a pod was assigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assigned {
    pub addresses: Addresses,
    /// The subnets of the addresses, each once.
    pub subnets: Vec<AssignedSubnet>,
    /// The node's address according to the server.
    pub host_primary: Option<IpAddr>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignedSubnet {
    pub prefix: IpNet,
    pub gateway: Option<IpAddr>,
}

/// Why an answer is not used.
#[derive(Debug, thiserror::Error)]
pub enum CnsAnswerError {
    /// A retry helps if it was cut short.
    #[error("not an answer of azure-cns: {0}")]
    Json(#[from] serde_json::Error),
    /// The server's `ReturnCode` and `Message`. A retry helps if the code is that of a temporary condition.
    #[error("it refuses with ReturnCode {code} ({}): {message}", meaning(*.code))]
    Refused { code: i64, message: String },
    /// A retry does not help.
    #[error("{field} = {value:?}: the value {problem}")]
    Malformed { field: &'static str, value: String, problem: &'static str },
    /// A retry does not help.
    #[error("the address is for a {0:?}, and only InfraNIC is supported")]
    OtherNic(String),
    /// A retry helps once the server has an IPv4 address.
    #[error("it gives no IPv4 address")]
    NoIpv4,
}

/// The codes of these calls (azure-cns, `types/codes.go`).
fn meaning(code: i64) -> &'static str {
    match code {
        14 => "not found",
        23 => "invalid request",
        32 => "failed to allocate an address",
        33 => "no pod name",
        43 => "not supported",
        45 => "connection error",
        99 => "unexpected error",
        _ => "unknown",
    }
}

#[derive(Deserialize)]
struct Answer {
    #[serde(alias = "Response")]
    response: Response,
    #[serde(default, alias = "podIpInfo", alias = "PodIpInfo", alias = "PodIPInfo", rename = "podIPInfo")]
    pod_ip_info: Option<OneOrMany>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Response {
    return_code: i64,
    message: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    Many(Vec<PodIpInfo>),
    One(Box<PodIpInfo>),
}

#[derive(Deserialize)]
struct PodIpInfo {
    #[serde(rename = "PodIPConfig")]
    pod: IpSubnet,
    #[serde(rename = "NetworkContainerPrimaryIPConfig")]
    container: IpConfiguration,
    #[serde(rename = "HostPrimaryIPInfo", default)]
    host: HostIpInfo,
    /// Old servers omit it and serve this kind alone.
    #[serde(rename = "NICType", default)]
    nic_type: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct IpSubnet {
    #[serde(rename = "IPAddress")]
    address: String,
    prefix_length: u8,
}

#[derive(Deserialize)]
struct IpConfiguration {
    #[serde(rename = "IPSubnet")]
    subnet: IpSubnet,
    #[serde(rename = "GatewayIPAddress", default)]
    gateway: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct HostIpInfo {
    #[serde(rename = "PrimaryIP")]
    primary: String,
}

/// Reads the answer to a request, of either form.
pub fn parse_assigned(text: &str) -> Result<Assigned, CnsAnswerError> {
    let answer = accepted(text)?;
    let infos = match answer.pod_ip_info {
        Some(OneOrMany::Many(infos)) => infos,
        Some(OneOrMany::One(info)) => vec![*info],
        None => Vec::new(),
    };
    let (mut addresses, mut subnets, mut host_primary) = (Vec::new(), Vec::<AssignedSubnet>::new(), None);
    for info in infos {
        if !matches!(info.nic_type.as_str(), "" | "InfraNIC") {
            return Err(CnsAnswerError::OtherNic(info.nic_type));
        }
        addresses.push(address("PodIPConfig.IPAddress", &info.pod.address)?);
        let prefix = prefix(&info.container.subnet)?;
        if subnets.iter().all(|subnet| subnet.prefix != prefix) {
            let gateway = optional_address("GatewayIPAddress", &info.container.gateway)?;
            subnets.push(AssignedSubnet { prefix, gateway });
        }
        if host_primary.is_none() {
            host_primary = optional_address("HostPrimaryIPInfo.PrimaryIP", &info.host.primary)?;
        }
    }
    let addresses = Addresses::first_of_each(addresses).ok_or(CnsAnswerError::NoIpv4)?;
    Ok(Assigned { addresses, subnets, host_primary })
}

/// Reads the answer to a release. "Not found" is a success: the address is released.
pub fn parse_released(text: &str) -> Result<(), CnsAnswerError> {
    match accepted(text) {
        Err(CnsAnswerError::Refused { code: 14, .. }) => Ok(()),
        other => other.map(drop),
    }
}

fn accepted(text: &str) -> Result<Answer, CnsAnswerError> {
    let answer: Answer = serde_json::from_str(text)?;
    match answer.response {
        Response { return_code: 0, .. } => Ok(answer),
        Response { return_code: code, message } => Err(CnsAnswerError::Refused { code, message }),
    }
}

fn prefix(subnet: &IpSubnet) -> Result<IpNet, CnsAnswerError> {
    let base = address("IPSubnet.IPAddress", &subnet.address)?;
    // The address may be the subnet's or the container's.
    IpNet::new(base, subnet.prefix_length).map(|prefix| prefix.trunc()).map_err(|_| CnsAnswerError::Malformed {
        field: "IPSubnet.PrefixLength",
        value: subnet.prefix_length.to_string(),
        problem: "is longer than an address",
    })
}

fn optional_address(field: &'static str, text: &str) -> Result<Option<IpAddr>, CnsAnswerError> {
    if text.is_empty() { Ok(None) } else { address(field, text).map(Some) }
}

fn address(field: &'static str, text: &str) -> Result<IpAddr, CnsAnswerError> {
    text.parse().map_err(|_| CnsAnswerError::Malformed { field, value: text.to_owned(), problem: "is not an address" })
}
