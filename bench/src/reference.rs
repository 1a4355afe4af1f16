//! The reference arm: the standard `bridge` plugin with host-local, and one iptables rule that masquerades what leaves the
//! VNet, as the platform's own set-up excludes VNet prefixes from it.

use std::{
    io::Write,
    net::Ipv4Addr,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use azure_cni_tests::{Namespace, Station, VNET_PREFIX, Vm};
use serde_json::{Value, json};

/// A VM whose pods the bridge plugin attaches.
pub(crate) struct BridgeNode<'net> {
    vm: &'net Vm,
    plugins: &'net Path,
}

impl<'net> BridgeNode<'net> {
    pub(crate) fn prepare(vm: &'net Vm, plugins: &'net Path) -> Result<Self> {
        // Bridged packets pass iptables too: kube-proxy needs it, so that is what users of a bridge have.
        vm.namespace().sysctl("net/bridge/bridge-nf-call-iptables", "1").context("is br_netfilter loaded?")?;
        let rule = format!("-t nat -A POSTROUTING -s {} ! -d {VNET_PREFIX} -j MASQUERADE", subnet(vm));
        let mut iptables = vm.namespace().command("iptables")?;
        iptables.args(rule.split(' '));
        succeed(iptables, "").context("`iptables` for the bridge arm (Debian package iptables)")?;
        Ok(Self { vm, plugins })
    }

    /// Runs the plugin as a runtime does.
    pub(crate) fn add_pod(&self, name: &str) -> Result<BridgedPod> {
        let namespace = Namespace::create(&format!("{}-{name}", self.vm.name()))?;
        let result = succeed(self.command("ADD", &namespace)?, &self.netconf().to_string()).with_context(|| {
            format!(
                "the bridge plugin in {} (Debian package containernetworking-plugins; --cni-plugins says where)",
                self.plugins.display()
            )
        })?;
        let result: Value = serde_json::from_str(&result).context("the bridge plugin's result")?;
        let address = result["ips"][0]["address"].as_str().and_then(|text| text.split_once('/')?.0.parse().ok());
        let address = address.with_context(|| format!("no IPv4 address in the bridge plugin's result {result}"))?;
        Ok(BridgedPod { namespace, address })
    }

    /// The plugin with the environment of a call; what it reads is [`Self::netconf`].
    pub(crate) fn command(&self, verb: &str, namespace: &Namespace) -> Result<Command> {
        let mut plugin = self.vm.namespace().command(self.plugins.join("bridge"))?;
        plugin.env_clear().env("CNI_COMMAND", verb).env("CNI_CONTAINERID", namespace.name());
        plugin.env("CNI_NETNS", namespace.path()).env("CNI_IFNAME", "eth0").env("CNI_PATH", self.plugins);
        // The plugins look for iptables and sysctls themselves.
        plugin.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        Ok(plugin)
    }

    pub(crate) fn netconf(&self) -> Value {
        let pool = self.vm.pool();
        json!({
            "cniVersion": "1.0.0",
            "name": "reference",
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": true,
            "ipam": {
                "type": "host-local",
                "dataDir": self.vm.dir().join("host-local"),
                "ranges": [[{ "subnet": subnet(self.vm), "gateway": pool[0], "rangeStart": pool[1] }]],
                "routes": [{ "dst": "0.0.0.0/0" }],
            },
        })
    }
}

/// The fabric gives every VM a /24 of secondary addresses; the first is the bridge's own.
fn subnet(vm: &Vm) -> String {
    let [a, b, c, _] = vm.pool()[0].octets();
    format!("{a}.{b}.{c}.0/24")
}

fn succeed(mut command: Command, input: &str) -> Result<String> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().expect("was asked for").write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{}\n{stdout}{stderr}", output.status);
    Ok(stdout.into_owned())
}

/// A pod behind the software bridge.
pub(crate) struct BridgedPod {
    namespace: Namespace,
    address: Ipv4Addr,
}

impl Station for BridgedPod {
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
