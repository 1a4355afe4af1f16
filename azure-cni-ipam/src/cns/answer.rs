//! Answers of azure-cns, in either form. An answer is used as a whole or not at all: what it asks for and this data path does
//! not do is refused, never ignored.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use azure_cni_api::excerpt::{bounded, excerpt};
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;

use crate::addresses::Addresses;
use crate::nic::subnet_lengths;

/// The gateways of pods: see the agent's `endpoint/gateway.rs`.
const POD_GATEWAYS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(169, 254, 1, 1)), IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0x1234, 0x5678, 0x9abc))];

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
    #[error("not an answer of azure-cns: {}", bounded(&.0.to_string()))]
    Json(#[from] serde_json::Error),
    /// The server's `ReturnCode` and `Message`. A retry helps if the code is that of a temporary condition.
    #[error("it refuses with ReturnCode {code} ({}): {}", meaning(*.code), excerpt(.message))]
    Refused { code: i64, message: String },
    /// A retry does not help.
    #[error("{field} = {:?}: the value {problem}", excerpt(.value))]
    Malformed { field: &'static str, value: String, problem: &'static str },
    /// A retry does not help.
    #[error("the address is for a {:?}, and only InfraNIC is supported", excerpt(.0))]
    OtherNic(String),
    /// A retry does not help: the server's configuration asks for what only other network plugins do.
    #[error("it asks for {what}, which is not supported{}", detail(.value))]
    Unsupported { what: &'static str, value: String },
    /// A retry does not help.
    #[error("it gives address {address}, outside of the subnet {prefix} that it names with it")]
    OutsideSubnet { address: IpAddr, prefix: IpNet },
    /// A retry does not help.
    #[error("it gives {first} and {second}, and a pod has one address of a family")]
    TwoOfAFamily { first: IpAddr, second: IpAddr },
    /// A retry helps once the server has an IPv4 address.
    #[error("it gives no IPv4 address")]
    NoIpv4,
}

fn detail(value: &str) -> String {
    if value.is_empty() { String::new() } else { format!(": {}", excerpt(value)) }
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
    #[serde(rename = "SkipDefaultRoutes", default)]
    skip_default_routes: Option<bool>,
    #[serde(rename = "Routes", default)]
    routes: Option<Vec<Route>>,
    /// Rules for the pod's packets, such as to deny all by default.
    #[serde(rename = "EndpointPolicies", default)]
    endpoint_policies: Option<Vec<Value>>,
}

/// A route of the pod's interface. All that a pod sends goes to its one gateway, and the data path decides where it goes from
/// there: a route that names no other gateway than the pod's or the subnet's is served by the default route.
#[derive(Deserialize)]
struct Route {
    #[serde(rename = "IPAddress", default)]
    destination: String,
    #[serde(rename = "GatewayIPAddress", default)]
    gateway: String,
    #[serde(rename = "InterfaceToUse", default)]
    interface: String,
}

impl PodIpInfo {
    fn ensure_supported(&self) -> Result<(), CnsAnswerError> {
        let unsupported = |what, value: &str| Err(CnsAnswerError::Unsupported { what, value: value.to_owned() });
        if !matches!(self.nic_type.as_str(), "" | "InfraNIC") {
            return Err(CnsAnswerError::OtherNic(self.nic_type.clone()));
        }
        if self.skip_default_routes == Some(true) {
            return unsupported("a pod without default routes (SkipDefaultRoutes)", "");
        }
        if self.endpoint_policies.as_ref().is_some_and(|policies| !policies.is_empty()) {
            return unsupported("policies of the pod's interface (EndpointPolicies)", "");
        }
        for Route { destination, gateway, interface } in self.routes.iter().flatten() {
            if !interface.is_empty() {
                return unsupported("a route through an interface (Routes.InterfaceToUse)", interface);
            }
            destination.parse::<IpNet>().map(drop).or_else(|_| address("Routes.IPAddress", destination).map(drop))?;
            let via = optional_address("Routes.GatewayIPAddress", gateway)?;
            let is_served = via.is_none_or(|via| POD_GATEWAYS.contains(&via)) || *gateway == self.container.gateway;
            if !is_served {
                return unsupported(
                    "a route through another gateway than the pod's (Routes)",
                    &format!("{destination} via {gateway}"),
                );
            }
        }
        Ok(())
    }
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
    let (mut addresses, mut subnets, mut host_primary) = (Vec::<IpAddr>::new(), Vec::<AssignedSubnet>::new(), None);
    for info in infos {
        info.ensure_supported()?;
        let given = address("PodIPConfig.IPAddress", &info.pod.address)?;
        let same_family = addresses.iter().find(|earlier| earlier.is_ipv4() == given.is_ipv4());
        if let Some(first) = same_family {
            return Err(CnsAnswerError::TwoOfAFamily { first: *first, second: given });
        }
        addresses.push(given);
        let prefix = prefix(&info.container.subnet)?;
        if !prefix.contains(&given) {
            return Err(CnsAnswerError::OutsideSubnet { address: given, prefix });
        }
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
    let malformed = |problem| {
        let value = subnet.prefix_length.to_string();
        CnsAnswerError::Malformed { field: "IPSubnet.PrefixLength", value, problem }
    };
    let prefix = IpNet::new(base, subnet.prefix_length).map_err(|_| malformed("is longer than an address"))?;
    // Blocks of addresses may be as small as they like. What the prefix holds is reached with the pod's own address.
    if subnet.prefix_length < *subnet_lengths(&prefix).start() {
        return Err(malformed("is no length of a virtual network's subnet"));
    }
    Ok(prefix.trunc())
}

fn optional_address(field: &'static str, text: &str) -> Result<Option<IpAddr>, CnsAnswerError> {
    if text.is_empty() { Ok(None) } else { address(field, text).map(Some) }
}

fn address(field: &'static str, text: &str) -> Result<IpAddr, CnsAnswerError> {
    text.parse().map_err(|_| CnsAnswerError::Malformed { field, value: text.to_owned(), problem: "is not an address" })
}
