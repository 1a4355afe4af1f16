//! The network configuration: what it asks for, checked once. Configurations written for `azure-vnet` work unchanged.
//!
//! The rule: a field that asks for what is not served is refused by name; a field of the reference that has no meaning
//! here is accepted and listed in `ignored`; keys that nobody knows are not looked at.

use std::net::IpAddr;
use std::path::PathBuf;

use serde_json::Value;

use super::error::excerpt;
use super::fields::Fields;
use super::runtime_requests::{self, Asked};
use super::{AddResult, CniArgs, CniError, CniVersion, Dns, NetworkName};
use crate::address_request::AddressRequest;

/// What every command needs of the configuration, DEL and GC nothing else: a configuration that ADD would refuse must
/// not keep a pod from going.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    pub cni_version: CniVersion,
    pub name: NetworkName,
    pub agent_socket: Option<PathBuf>,
    /// Where requests to free something are written down while no agent is there.
    pub spool_dir: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetConf {
    pub cni_version: CniVersion,
    pub name: NetworkName,
    pub plugin_type: String,
    pub agent_socket: Option<PathBuf>,
    pub mtu: Option<u32>,
    pub ips_to_route_via_host: Vec<IpAddr>,
    /// `snat` is false: its pods are seen with their own address by the Internet too.
    pub keep_source: bool,
    /// What the call asks of the pod's address.
    pub address_request: AddressRequest,
    /// Of the pod's interface; absent: one that follows from the attachment's names.
    pub mac: Option<[u8; 6]>,
    /// The NIC that the network is on; absent: the agent's.
    pub master: Option<String>,
    /// What earlier plugins of the chain made; CHECK: what ADD answered.
    pub prev_result: Option<AddResult>,
    /// `dns` of the network, overridden by what the runtime wants for this pod.
    pub dns: Dns,
    /// Known fields that were given and have no meaning here, by path: to be reported once.
    pub ignored: Vec<String>,
}

/// Fields of the reference's configuration that have no meaning here. Prefixes and the uplink are the agent's to know.
const WITHOUT_MEANING: [&str; 17] = [
    "AdditionalArgs",
    "adapterName",
    "bridge",
    "cnsurl",
    "disableAsyncDelete",
    "disableHairpinOnHostInterface",
    "disableIPTableLock",
    "enableExactMatchForPodName",
    "enableSnatOnHost",
    "executionMode",
    "infraVnetAddressSpace",
    "logLevel",
    "logTarget",
    "podNamespaceForDualNetwork",
    "serviceCidrs",
    "vnetCidrs",
    "windowsSettings",
];
const IPAM_WITHOUT_MEANING: [&str; 5] = ["addressSpace", "environment", "mode", "queryInterval", "subnet"];

/// All are served by the agent's pool, wherever that is filled from.
const IPAM_TYPES: [&str; 3] = ["azure-cni", "azure-cns", "azure-vnet-ipam"];

/// Capabilities that are served: what a configuration may declare.
pub const CAPABILITIES: [&str; 4] = ["dns", "ips", "mac", runtime_requests::ANNOTATIONS];
/// A runtime passes them on only where the configuration declares them.
const CAPABILITIES_NOT_SERVED: [&str; 1] = ["bandwidth"];

/// RFC 791 section 3.2: every IPv4 link carries 68 bytes. No packet is longer than 65535.
const MTU_MIN: u32 = 68;
const MTU_MAX: u32 = 65535;

/// Standard input as JSON; an error says where it breaks off.
pub fn decode(input: &[u8]) -> Result<Value, CniError> {
    serde_json::from_slice(input).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        CniError::decode(format!("the network configuration is not JSON, at line {line} column {column}"))
            .with_details(error.to_string())
    })
}

fn whole(config: &Value) -> Result<Fields<'_>, CniError> {
    Fields::whole("the network configuration", config)
}

impl Network {
    pub(super) fn parse(config: &Value) -> Result<Self, CniError> {
        let fields = whole(config)?;
        let Some(version) = fields.string("cniVersion")? else {
            // The protocol reads its absence as 0.1.0, or 0.2.0 for plugins without VERSION; neither is served.
            return Err(CniError::incompatible_version("cniVersion is missing from the network configuration"));
        };
        let cni_version = version.parse()?;
        let Some(name) = fields.string("name")? else {
            return Err(CniError::invalid_config("name is missing from the network configuration"));
        };
        let name = name.parse().map_err(|_| {
            CniError::invalid_config(format!("name has {}", excerpt(&name.into())))
                .with_details("it must match ^[a-zA-Z0-9][a-zA-Z0-9_.\\-]*$")
        })?;
        let path = |key| Ok::<_, CniError>(fields.string(key)?.map(PathBuf::from));
        Ok(Self { cni_version, name, agent_socket: path("agentSocket")?, spool_dir: path("spoolDir")? })
    }
}

impl NetConf {
    /// The configuration of a call that makes or checks an attachment, with what `CNI_ARGS` and `args.cni` say.
    pub(super) fn parse(config: &Value, args: Option<&str>) -> Result<(Self, CniArgs), CniError> {
        let Network { cni_version, name, agent_socket, .. } = Network::parse(config)?;
        let fields = whole(config)?;
        let plugin_type = fields.string("type")?.ok_or_else(|| CniError::invalid_config("type is missing"))?.to_owned();
        let mut ignored = given(&fields, &WITHOUT_MEANING);
        if accept_mode(&fields)? {
            ignored.push("mode".into());
        }
        if let Some(ipam) = fields.object("ipam")? {
            accept_ipam(&ipam)?;
            ignored.extend(given(&ipam, &IPAM_WITHOUT_MEANING));
        }
        let dns = dns(&fields)?;
        let args = pod_args(&fields, args)?;
        let Asked { address_request, mac } = Asked::read(&fields, &args)?;
        let netconf = Self {
            cni_version,
            name,
            plugin_type,
            agent_socket,
            mtu: mtu(&fields)?,
            ips_to_route_via_host: fields.all_parsed("ipsToRouteViaHost")?,
            keep_source: !fields.flag_or("snat", true)?,
            master: fields.string("master")?.map(str::to_owned),
            prev_result: fields.object("prevResult")?.map(|result| AddResult::read(&result)).transpose()?,
            dns,
            address_request,
            mac,
            ignored,
        };
        Ok((netconf, args))
    }
}

/// True if the mode is one that the reference builds differently.
fn accept_mode(fields: &Fields) -> Result<bool, CniError> {
    let refused =
        |what: String| CniError::invalid_config(what).with_details("transparent, bridge and tunnel are served");
    let builds_differently = match fields.string("mode")? {
        None | Some("transparent") => false,
        Some("bridge" | "tunnel") => true,
        Some("transparent-vlan") => return Err(refused("mode transparent-vlan is not served".into())),
        Some(other) => return Err(refused(format!("mode {} is unknown", excerpt(&other.into())))),
    };
    if fields.flag("multiTenancy")? {
        return Err(CniError::invalid_config("multiTenancy is not served: all pods share one network"));
    }
    match fields.value("ipv6Mode") {
        Some(value) if !is_empty(value) => Err(CniError::unsupported_field("ipv6Mode", value)),
        _ => Ok(builds_differently),
    }
}

fn accept_ipam(ipam: &Fields) -> Result<(), CniError> {
    if let Some(other) = ipam.string("type")?.filter(|kind| !IPAM_TYPES.contains(kind)) {
        let msg = format!("ipam.type {} is not served", excerpt(&other.into()));
        return Err(CniError::invalid_config(msg).with_details(format!("served are {}", IPAM_TYPES.join(", "))));
    }
    Ok(())
}

fn mtu(fields: &Fields) -> Result<Option<u32>, CniError> {
    let mtu = fields.number("mtu")?;
    match mtu.filter(|mtu| !(MTU_MIN..=MTU_MAX).contains(mtu)) {
        Some(mtu) => Err(CniError::invalid_config(format!("mtu is {mtu}, not within {MTU_MIN} to {MTU_MAX}"))),
        None => Ok(mtu),
    }
}

/// The network's DNS; what the runtime passes for this pod wins, list by list.
fn dns(fields: &Fields) -> Result<Dns, CniError> {
    let mut dns = fields.object("dns")?.map(|dns| Dns::read(&dns)).transpose()?.unwrap_or_default();
    let Some(runtime) = fields.object("runtimeConfig")? else { return Ok(dns) };
    for capability in CAPABILITIES_NOT_SERVED {
        if let Some(value) = runtime.value(capability).filter(|value| !is_empty(value)) {
            return Err(CniError::unsupported_field(&runtime.path(capability), value));
        }
    }
    if let Some(wanted) = runtime.object("dns")? {
        for (list, key) in
            [(&mut dns.nameservers, "servers"), (&mut dns.search, "searches"), (&mut dns.options, "options")]
        {
            let given = wanted.strings(key)?;
            if !given.is_empty() {
                *list = given.into_iter().map(str::to_owned).collect();
            }
        }
    }
    Ok(dns)
}

/// What is said about the pod.
fn pod_args(fields: &Fields, variable: Option<&str>) -> Result<CniArgs, CniError> {
    let from_config = fields.object("args")?.map(|args| args.object("cni")).transpose()?.flatten();
    CniArgs::parse(variable, from_config.map(|cni| cni.map()))
}

fn given(fields: &Fields, keys: &[&str]) -> Vec<String> {
    keys.iter().filter(|key| fields.value(key).is_some()).map(|key| fields.path(key)).collect()
}

/// Empty asks for nothing.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(keys) => keys.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests;
