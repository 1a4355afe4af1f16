//! The network configuration, checked once. Configurations written for `azure-vnet` work unchanged.
//!
//! The rule: a field that requests an unsupported feature is refused by name. A field of `azure-vnet` that has no meaning
//! here is accepted and listed in `ignored`. Unknown keys are skipped.

use std::net::IpAddr;
use std::path::PathBuf;

use serde_json::Value;

use super::args::CniArgs;
use super::attachment::NetworkName;
use super::bandwidth;
use super::error::{CniError, excerpt};
use super::fields::Fields;
use super::result::{AddResult, Dns};
use super::runtime_requests::{self, RuntimeRequests};
use super::version::CniVersion;
use crate::address_request::AddressRequest;
use crate::bandwidth::Bandwidth;

/// What every command needs of the configuration. DEL and GC need nothing else: a configuration that ADD would refuse
/// must not keep a pod from being removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    pub cni_version: CniVersion,
    pub name: NetworkName,
    pub agent_socket: Option<PathBuf>,
    /// Where DEL and GC are spooled while no agent runs.
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
    /// `snat` is false: pods keep their own address on the way to the Internet too.
    pub keep_source: bool,
    /// What the call requests of the pod's addresses.
    pub address_request: AddressRequest,
    /// The MAC of the pod's interface; absent: one that follows from the attachment's identity.
    pub mac: Option<[u8; 6]>,
    pub bandwidth: Bandwidth,
    /// The NIC of the network; absent: the agent's uplink.
    pub master: Option<String>,
    /// The result of earlier plugins of the chain; for CHECK, the result of ADD.
    pub prev_result: Option<AddResult>,
    /// The network's `dns`, overridden by what the runtime passes for this pod.
    pub dns: Dns,
    /// Paths of the given fields that have no meaning here, for one line of the log.
    pub ignored: Vec<String>,
}

/// Fields of `azure-vnet` that have no meaning here. Prefixes and the uplink are in the agent's configuration.
const IGNORED_FIELDS: [&str; 17] = [
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
const IGNORED_IPAM_FIELDS: [&str; 5] = ["addressSpace", "environment", "mode", "queryInterval", "subnet"];

/// All of them mean the agent's pool, whatever its source.
const IPAM_TYPES: [&str; 3] = ["azure-cni", "azure-cns", "azure-vnet-ipam"];

/// The supported capabilities: what a configuration may declare.
pub const CAPABILITIES: [&str; 5] = [bandwidth::CAPABILITY, "dns", "ips", "mac", runtime_requests::ANNOTATIONS];

/// RFC 791 section 3.2: every IPv4 link carries 68 bytes. No packet is longer than 65535.
const MTU_MIN: u32 = 68;
const MTU_MAX: u32 = 65535;

/// Reads standard input as JSON. An error names line and column.
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
            // Absent means 0.1.0, or 0.2.0 for plugins without VERSION. Neither is supported.
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
    /// The configuration of a call that creates or checks an attachment, with `CNI_ARGS` and `args.cni`.
    pub(super) fn parse(config: &Value, args: Option<&str>) -> Result<(Self, CniArgs), CniError> {
        let Network { cni_version, name, agent_socket, .. } = Network::parse(config)?;
        let fields = whole(config)?;
        let plugin_type = fields.string("type")?.ok_or_else(|| CniError::invalid_config("type is missing"))?.to_owned();
        let mut ignored = given(&fields, &IGNORED_FIELDS);
        if accept_mode(&fields)? {
            ignored.push("mode".into());
        }
        if let Some(ipam) = fields.object("ipam")? {
            accept_ipam(&ipam)?;
            ignored.extend(given(&ipam, &IGNORED_IPAM_FIELDS));
        }
        let dns = dns(&fields)?;
        let args = pod_args(&fields, args)?;
        let RuntimeRequests { address_request, mac } = RuntimeRequests::read(&fields, &args)?;
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
            bandwidth: bandwidth::read(fields.object("runtimeConfig")?.as_ref())?,
            ignored,
        };
        Ok((netconf, args))
    }
}

/// True if `azure-vnet` builds this mode differently.
fn accept_mode(fields: &Fields) -> Result<bool, CniError> {
    let refused =
        |what: String| CniError::invalid_config(what).with_details("transparent, bridge and tunnel are supported");
    let builds_differently = match fields.string("mode")? {
        None | Some("transparent") => false,
        Some("bridge" | "tunnel") => true,
        Some("transparent-vlan") => return Err(refused("mode transparent-vlan is not supported".into())),
        Some(other) => return Err(refused(format!("mode {} is unknown", excerpt(&other.into())))),
    };
    if fields.flag("multiTenancy")? {
        return Err(CniError::invalid_config("multiTenancy is not supported: all pods share one network"));
    }
    match fields.value("ipv6Mode") {
        Some(value) if !is_empty(value) => Err(CniError::unsupported_field("ipv6Mode", value)),
        _ => Ok(builds_differently),
    }
}

fn accept_ipam(ipam: &Fields) -> Result<(), CniError> {
    if let Some(other) = ipam.string("type")?.filter(|kind| !IPAM_TYPES.contains(kind)) {
        let msg = format!("ipam.type {} is not supported", excerpt(&other.into()));
        return Err(CniError::invalid_config(msg).with_details(format!("supported are {}", IPAM_TYPES.join(", "))));
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

/// The network's DNS. What the runtime passes for this pod wins, list by list.
fn dns(fields: &Fields) -> Result<Dns, CniError> {
    let mut dns = fields.object("dns")?.map(|dns| Dns::read(&dns)).transpose()?.unwrap_or_default();
    let Some(runtime) = fields.object("runtimeConfig")? else { return Ok(dns) };
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

/// The arguments of the pod.
fn pod_args(fields: &Fields, variable: Option<&str>) -> Result<CniArgs, CniError> {
    let from_config = fields.object("args")?.map(|args| args.object("cni")).transpose()?.flatten();
    CniArgs::parse(variable, from_config.map(|cni| cni.map()))
}

fn given(fields: &Fields, keys: &[&str]) -> Vec<String> {
    keys.iter().filter(|key| fields.value(key).is_some()).map(|key| fields.path(key)).collect()
}

/// An empty value requests nothing.
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
