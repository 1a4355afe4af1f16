//! The reference variants: the standard `bridge` and `ptp` plugins with host-local, and iptables rules that masquerade what leaves
//! the VNet, as the platform's own set-up excludes VNet prefixes from it.

use std::{
    io::Write,
    net::Ipv4Addr,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use azure_cni_tests::{Namespace, PEERED_PREFIX, Station, VNET_PREFIX, Vm};
use serde_json::{Value, json};

use crate::variant::Variant;

/// What attaches pods in a reference variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reference {
    /// The software bridge: what the seed of this project replaces.
    Bridge,
    /// A veth pair for each pod, and a route: what the platform's plugin does today in its transparent mode.
    Ptp,
}

impl Reference {
    pub(crate) fn of(variant: Variant) -> Option<Self> {
        match variant {
            Variant::Bridge => Some(Self::Bridge),
            Variant::Ptp => Some(Self::Ptp),
            Variant::Bare | Variant::LowerBound | Variant::Ours | Variant::OursServicesKnown => None,
        }
    }

    fn plugin(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Ptp => "ptp",
        }
    }
}

/// The iptables that distributions install today: the kernel keeps its rules as nftables.
const IPTABLES: &str = "iptables-nft";

/// A VM whose pods a reference plugin attaches.
pub(crate) struct ReferenceNode<'net> {
    vm: &'net Vm,
    plugins: &'net Path,
    reference: Reference,
}

impl<'net> ReferenceNode<'net> {
    pub(crate) fn prepare(vm: &'net Vm, plugins: &'net Path, reference: Reference) -> Result<Self> {
        if let Reference::Bridge = reference {
            // Bridged packets pass iptables too: kube-proxy needs it, so that is what users of a bridge have.
            vm.namespace().sysctl("net/bridge/bridge-nf-call-iptables", "1").context("is br_netfilter loaded?")?;
        }
        let pods = subnet(vm);
        for rule in [
            format!("-t nat -A POSTROUTING -s {pods} -d {VNET_PREFIX} -j RETURN"),
            format!("-t nat -A POSTROUTING -s {pods} -d {PEERED_PREFIX} -j RETURN"),
            format!("-t nat -A POSTROUTING -s {pods} -j MASQUERADE"),
        ] {
            let mut command = vm.namespace().command(IPTABLES)?;
            command.args(rule.split(' '));
            succeed(command, "").with_context(|| format!("`{IPTABLES}` (Debian package iptables)"))?;
        }
        Ok(Self { vm, plugins, reference })
    }

    /// Runs the plugin as a runtime does.
    pub(crate) fn add_pod(&self, name: &str) -> Result<AttachedPod> {
        let namespace = Namespace::create(&format!("{}-{name}", self.vm.name()))?;
        let result = succeed(self.command("ADD", &namespace)?, &self.netconf().to_string()).with_context(|| {
            format!(
                "the {} plugin in {} (Debian package containernetworking-plugins; --cni-plugins says where)",
                self.reference.plugin(),
                self.plugins.display()
            )
        })?;
        let result: Value = serde_json::from_str(&result).context("the plugin's result")?;
        let address = result["ips"][0]["address"].as_str().and_then(|text| text.split_once('/')?.0.parse().ok());
        let address = address.with_context(|| format!("no IPv4 address in the plugin's result {result}"))?;
        Ok(AttachedPod { namespace, address })
    }

    /// The plugin with the environment of a call; what it reads is [`Self::netconf`].
    pub(crate) fn command(&self, verb: &str, namespace: &Namespace) -> Result<Command> {
        let mut plugin = self.vm.namespace().command(self.plugins.join(self.reference.plugin()))?;
        plugin.env_clear().env("CNI_COMMAND", verb).env("CNI_CONTAINERID", namespace.name());
        plugin.env("CNI_NETNS", namespace.path()).env("CNI_IFNAME", "eth0").env("CNI_PATH", self.plugins);
        // The plugins look for iptables and sysctls themselves.
        plugin.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        Ok(plugin)
    }

    pub(crate) fn netconf(&self) -> Value {
        let pool = self.vm.pool();
        let mut netconf = json!({
            "cniVersion": "1.0.0",
            "name": "reference",
            "type": self.reference.plugin(),
            "ipam": {
                "type": "host-local",
                "dataDir": self.vm.dir().join("host-local"),
                "ranges": [[{ "subnet": subnet(self.vm), "gateway": gateway(self.vm), "rangeStart": pool[0], "rangeEnd": pool[pool.len() - 1] }]],
                "routes": [{ "dst": "0.0.0.0/0" }],
            },
        });
        if let Reference::Bridge = self.reference {
            netconf["bridge"] = "cni0".into();
            netconf["isGateway"] = true.into();
        }
        netconf
    }
}

/// The fabric gives every VM the first addresses of a /24 for its pods.
fn subnet(vm: &Vm) -> String {
    let [a, b, c, _] = vm.pool()[0].octets();
    format!("{a}.{b}.{c}.0/24")
}

/// The pods' gateway on the VM, besides the addresses of its pool.
fn gateway(vm: &Vm) -> Ipv4Addr {
    let [a, b, c, _] = vm.pool()[0].octets();
    Ipv4Addr::new(a, b, c, 254)
}

fn succeed(mut command: Command, input: &str) -> Result<String> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().expect("was asked for").write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{}\n{stdout}{stderr}", output.status);
    Ok(stdout.into_owned())
}

/// A pod that a reference plugin has attached.
pub(crate) struct AttachedPod {
    namespace: Namespace,
    address: Ipv4Addr,
}

impl Station for AttachedPod {
    fn name(&self) -> &str {
        self.namespace.name()
    }

    fn address(&self) -> Ipv4Addr {
        self.address
    }

    fn namespace(&self) -> &Namespace {
        &self.namespace
    }
}
