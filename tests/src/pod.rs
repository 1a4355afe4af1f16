//! A pod: a namespace that the plugin has attached to the network.
//!
//! Dropping a pod makes its namespace vanish without a DEL, as when a node crashes; `del` is the orderly way.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::Value;

use crate::{
    cni::{CniCall, CniOutput},
    error::{Error, Result},
    namespace::Namespace,
    offload::set_checksum_offload,
    station::Station,
    vm::Vm,
};

/// The interface that pods get.
const INTERFACE: &str = "eth0";
/// Where Debian's containernetworking-plugins are, and the programs that they call.
const STANDARD_PLUGINS: &str = "/usr/lib/cni";
const SYSTEM_PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// A pod of a VM.
pub struct Pod<'net> {
    vm: &'net Vm,
    namespace: Namespace,
    netconf: Value,
    result: Value,
    address: Ipv4Addr,
    address6: Option<Ipv6Addr>,
}

impl Vm {
    /// Runs a pod: makes its namespace and has the plugin ADD it.
    pub fn add_pod(&self, name: &str) -> Result<Pod<'_>> {
        self.add_pod_with(name, self.netconf())
    }

    /// Runs a pod with a network configuration of the test's own.
    pub fn add_pod_with(&self, name: &str, netconf: Value) -> Result<Pod<'_>> {
        Pod::add(self, name, netconf)
    }
}

impl<'net> Pod<'net> {
    fn add(vm: &'net Vm, name: &str, netconf: Value) -> Result<Self> {
        let namespace = Namespace::create(&format!("{}-{name}", vm.name()))?;
        let call = CniCall::new("ADD")?.attachment(namespace.name(), namespace.path(), INTERFACE).netconf(&netconf);
        let output = vm.cni(&call)?.succeeded(&call)?;
        let result = output.json()?;
        let Some(address) = addresses(&result).find_map(|text| text.parse().ok()) else {
            let problem = "no IPv4 address in ips".into();
            return Err(Error::Answer { command: "azure-cni (ADD)".into(), answer: output.stdout, problem });
        };
        let address6 = addresses(&result).find_map(|text| text.parse().ok());
        if !vm.checksum_offload() {
            set_checksum_offload(&namespace, INTERFACE, false)?;
            let host_interface = host_interface(&result).unwrap_or_default();
            set_checksum_offload(vm.namespace(), host_interface, false)?;
        }
        Ok(Self { vm, namespace, netconf, result, address, address6 })
    }

    /// The VM that it runs on.
    pub fn vm(&self) -> &'net Vm {
        self.vm
    }

    /// What `CNI_CONTAINERID` carries.
    pub fn container_id(&self) -> &str {
        self.namespace.name()
    }

    /// What ADD printed.
    pub fn result(&self) -> &Value {
        &self.result
    }

    /// The host side of its veth pair.
    pub fn host_interface(&self) -> &str {
        host_interface(&self.result).unwrap_or_default()
    }

    /// The call that a runtime makes about this pod; CHECK and DEL carry the result of ADD.
    pub fn call(&self, command: &str) -> Result<CniCall> {
        let mut netconf = self.netconf.clone();
        if command != "ADD" {
            netconf["prevResult"] = self.result.clone();
        }
        let call = CniCall::new(command)?.attachment(self.container_id(), self.namespace.path(), INTERFACE);
        Ok(call.netconf(&netconf))
    }

    /// CHECK, which must succeed.
    pub fn check(&self) -> Result<()> {
        self.succeed("CHECK").map(drop)
    }

    /// DEL, which must succeed, any number of times.
    pub fn del(&self) -> Result<()> {
        self.succeed("DEL").map(drop)
    }

    /// Runs a standard plugin after ours, with keys of its own, as a runtime does for a list of plugins.
    pub fn chain(&self, command: &str, plugin: &str, keys: Value) -> Result<()> {
        let mut netconf = keys;
        for (key, value) in [
            ("cniVersion", &self.result["cniVersion"]),
            ("name", &self.netconf["name"]),
            ("type", &plugin.into()),
            ("prevResult", &self.result),
        ] {
            netconf[key] = value.clone();
        }
        let call = CniCall::new(command)?
            .attachment(self.container_id(), self.namespace.path(), INTERFACE)
            .with("CNI_PATH", STANDARD_PLUGINS)
            .with("PATH", SYSTEM_PATH);
        self.vm.chained(&format!("{STANDARD_PLUGINS}/{plugin}"), &call.netconf(&netconf))
    }

    /// Removes the namespace; returns the DEL that the runtime still makes.
    pub fn lose_namespace(self) -> Result<CniCall> {
        self.call("DEL")
    }

    fn succeed(&self, command: &str) -> Result<CniOutput> {
        let call = self.call(command)?;
        self.vm.cni(&call)?.succeeded(&call)
    }
}

impl Station for Pod<'_> {
    fn name(&self) -> &str {
        self.namespace.name()
    }

    fn address(&self) -> Ipv4Addr {
        self.address
    }

    fn address6(&self) -> Option<Ipv6Addr> {
        self.address6
    }

    fn namespace(&self) -> &Namespace {
        &self.namespace
    }
}

/// The addresses that a result gives the pod, without their prefix lengths.
fn addresses(result: &Value) -> impl Iterator<Item = &str> {
    let ips = result["ips"].as_array().map(Vec::as_slice).unwrap_or_default();
    ips.iter().filter_map(|ip| Some(ip["address"].as_str()?.split_once('/')?.0))
}

/// The interface without a sandbox is the host's.
fn host_interface(result: &Value) -> Option<&str> {
    let is_host_side = |interface: &&Value| matches!(interface["sandbox"].as_str(), None | Some(""));
    result["interfaces"].as_array()?.iter().find(is_host_side)?["name"].as_str()
}
