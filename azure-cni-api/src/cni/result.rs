//! The result of ADD. Only this file knows how its form differs between versions of the protocol.
//!
//! A result is written in the version of the call. It is read in any supported version, and its indices are checked, so
//! that CHECK can rely on them.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Map, Value, json};

use super::error::CniError;
use super::fields::Fields;
use super::version::CniVersion;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddResult {
    pub interfaces: Vec<Interface>,
    pub ips: Vec<IpConfig>,
    pub routes: Vec<Route>,
    pub dns: Dns,
}

/// A created interface. `mtu`, `socket_path` and `pci_id` exist since 1.1.0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    pub mac: Option<String>,
    pub mtu: Option<u32>,
    /// The path of the pod's namespace; `None` for an interface of the host.
    pub sandbox: Option<String>,
    pub socket_path: Option<String>,
    pub pci_id: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpConfig {
    pub address: IpNet,
    pub gateway: Option<IpAddr>,
    /// Index into [`AddResult::interfaces`].
    pub interface: Option<usize>,
}

/// A route of the pod. The fields after `gw` exist since 1.1.0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub dst: IpNet,
    pub gw: Option<IpAddr>,
    pub mtu: Option<u32>,
    pub advmss: Option<u32>,
    pub priority: Option<u32>,
    pub table: Option<u32>,
    pub scope: Option<u32>,
}

impl Route {
    pub fn new(dst: IpNet, gw: Option<IpAddr>) -> Self {
        Self { dst, gw, mtu: None, advmss: None, priority: None, table: None, scope: None }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dns {
    pub nameservers: Vec<String>,
    pub domain: Option<String>,
    pub search: Vec<String>,
    pub options: Vec<String>,
}

impl AddResult {
    /// Appends this result to that of earlier plugins of the chain, and adjusts its indices. Our DNS wins if we have any.
    pub fn after(mut self, earlier: AddResult) -> AddResult {
        let offset = earlier.interfaces.len();
        for ip in &mut self.ips {
            ip.interface = ip.interface.map(|index| index + offset);
        }
        let mut all = earlier;
        all.interfaces.append(&mut self.interfaces);
        all.ips.append(&mut self.ips);
        all.routes.append(&mut self.routes);
        if self.dns != Dns::default() {
            all.dns = self.dns;
        }
        all
    }

    pub fn to_json(&self, version: CniVersion) -> Value {
        json!({
            "cniVersion": version.as_str(),
            "interfaces": self.interfaces.iter().map(|interface| interface.to_json(version)).collect::<Vec<_>>(),
            "ips": self.ips.iter().map(|ip| ip.to_json(version)).collect::<Vec<_>>(),
            "routes": self.routes.iter().map(|route| route.to_json(version)).collect::<Vec<_>>(),
            "dns": self.dns.to_json(),
        })
    }

    /// Reads a result of any supported version.
    pub fn from_json(value: &Value) -> Result<AddResult, CniError> {
        Self::read(&Fields::whole("the result", value)?)
    }

    pub(super) fn read(fields: &Fields) -> Result<AddResult, CniError> {
        if let Some(version) = fields.string("cniVersion")? {
            let unsupported = |error: CniError| CniError {
                msg: format!("{} of a result: {}", fields.path("cniVersion"), error.msg),
                ..error
            };
            version.parse::<CniVersion>().map_err(unsupported)?;
        }
        let interfaces = fields.objects("interfaces")?.iter().map(Interface::read).collect::<Result<Vec<_>, _>>()?;
        let ip = |ip: &Fields| IpConfig::read(ip, interfaces.len());
        let ips = fields.objects("ips")?.iter().map(ip).collect::<Result<_, _>>()?;
        let routes = fields.objects("routes")?.iter().map(Route::read).collect::<Result<_, _>>()?;
        let dns = fields.object("dns")?.map(|dns| Dns::read(&dns)).transpose()?.unwrap_or_default();
        Ok(AddResult { interfaces, ips, routes, dns })
    }
}

impl Interface {
    fn to_json(&self, version: CniVersion) -> Value {
        let mut object = Object::new("name", json!(self.name));
        object.put("mac", &self.mac);
        object.put("sandbox", &self.sandbox);
        if version >= CniVersion::V1_1_0 {
            object.put("mtu", &self.mtu);
            object.put("socketPath", &self.socket_path);
            object.put("pciID", &self.pci_id);
        }
        object.into()
    }

    fn read(fields: &Fields) -> Result<Self, CniError> {
        let owned = |key| fields.string(key).map(|text| text.map(str::to_owned));
        Ok(Self {
            name: fields.string("name")?.ok_or_else(|| missing(fields, "name"))?.to_owned(),
            mac: owned("mac")?,
            mtu: fields.number("mtu")?,
            sandbox: owned("sandbox")?,
            socket_path: owned("socketPath")?,
            pci_id: owned("pciID")?,
        })
    }
}

impl IpConfig {
    fn to_json(&self, version: CniVersion) -> Value {
        let mut object = Object::new("address", json!(self.address));
        if version < CniVersion::V1_0_0 {
            object.put("version", &Some(if self.address.addr().is_ipv4() { "4" } else { "6" }));
        }
        object.put("gateway", &self.gateway);
        object.put("interface", &self.interface);
        object.into()
    }

    fn read(fields: &Fields, interfaces: usize) -> Result<Self, CniError> {
        let interface: Option<usize> = fields.number("interface")?;
        if let Some(index) = interface.filter(|index| *index >= interfaces) {
            let key = fields.path("interface");
            return Err(CniError::invalid_config(format!("{key} is {index}, of {interfaces} interfaces")));
        }
        Ok(Self {
            address: fields.parsed("address")?.ok_or_else(|| missing(fields, "address"))?,
            gateway: fields.parsed("gateway")?,
            interface,
        })
    }
}

impl Route {
    fn to_json(&self, version: CniVersion) -> Value {
        let mut object = Object::new("dst", json!(self.dst));
        object.put("gw", &self.gw);
        if version >= CniVersion::V1_1_0 {
            object.put("mtu", &self.mtu);
            object.put("advmss", &self.advmss);
            object.put("priority", &self.priority);
            object.put("table", &self.table);
            object.put("scope", &self.scope);
        }
        object.into()
    }

    fn read(fields: &Fields) -> Result<Self, CniError> {
        Ok(Self {
            dst: fields.parsed("dst")?.ok_or_else(|| missing(fields, "dst"))?,
            gw: fields.parsed("gw")?,
            mtu: fields.number("mtu")?,
            advmss: fields.number("advmss")?,
            priority: fields.number("priority")?,
            table: fields.number("table")?,
            scope: fields.number("scope")?,
        })
    }
}

impl Dns {
    fn to_json(&self) -> Value {
        let some = |list: &Vec<String>| Some(list.clone()).filter(|list| !list.is_empty());
        let mut object = Object::default();
        object.put("nameservers", &some(&self.nameservers));
        object.put("domain", &self.domain);
        object.put("search", &some(&self.search));
        object.put("options", &some(&self.options));
        object.into()
    }

    pub(super) fn read(fields: &Fields) -> Result<Self, CniError> {
        let list = |key| fields.strings(key).map(|list| list.into_iter().map(str::to_owned).collect());
        Ok(Self {
            nameservers: list("nameservers")?,
            domain: fields.string("domain")?.map(str::to_owned),
            search: list("search")?,
            options: list("options")?,
        })
    }
}

fn missing(fields: &Fields, key: &str) -> CniError {
    CniError::invalid_config(format!("{} is missing", fields.path(key)))
}

/// A JSON object under construction. Absent values get no key.
#[derive(Default)]
struct Object(Map<String, Value>);

impl Object {
    fn new(key: &str, value: Value) -> Self {
        Self(Map::from_iter([(key.to_owned(), value)]))
    }

    fn put<T: serde::Serialize>(&mut self, key: &str, value: &Option<T>) {
        if let Some(value) = value {
            self.0.insert(key.to_owned(), json!(value));
        }
    }
}

impl From<Object> for Value {
    fn from(object: Object) -> Value {
        Value::Object(object.0)
    }
}

#[cfg(test)]
mod tests;
