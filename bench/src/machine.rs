//! What the figures were measured on: kernel, processor, mitigations, versions.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    path::Path,
    process::Command,
};

use anyhow::{Context, Result};
use nix::sys::utsname::uname;
use serde::{Deserialize, Serialize};

use crate::cores::Cores;

/// Among the versions.
const OURS: &str = "azure-cni-ebpf";
const VULNERABILITIES: &str = "/sys/devices/system/cpu/vulnerabilities";

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Machine {
    kernel: String,
    processor: String,
    virtual_machine: bool,
    cores: usize,
    used: Cores,
    /// What the kernel says of each vulnerability that the processor has.
    mitigations: BTreeMap<String, String>,
    /// Not 0 means that the kernel times every program run, which costs.
    bpf_stats_enabled: String,
    bpf_jit_enabled: String,
    versions: BTreeMap<String, String>,
}

impl Machine {
    pub(crate) fn observe(cni_plugins: &Path, used: Cores) -> Result<Self> {
        let uname = uname().context("ask for the kernel's version")?;
        let text = |part: &std::ffi::OsStr| part.to_string_lossy().into_owned();
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").context("read /proc/cpuinfo")?;
        let mut versions = BTreeMap::from([(OURS.into(), env!("CARGO_PKG_VERSION").into())]);
        for program in ["iperf3", "iptables-nft"] {
            versions.insert(program.into(), first_line(program, &["--version"]));
        }
        versions.insert("reference plugins".into(), plugin_version(cni_plugins));
        Ok(Self {
            kernel: format!("{} {}", text(uname.release()), text(uname.version())),
            processor: value_of(&cpuinfo, "model name").unwrap_or("unknown").into(),
            virtual_machine: value_of(&cpuinfo, "flags").is_some_and(|flags| flags.contains(" hypervisor")),
            cores: cpuinfo.lines().filter(|line| line.starts_with("processor")).count(),
            used,
            mitigations: mitigations()?,
            bpf_stats_enabled: sysctl("kernel/bpf_stats_enabled"),
            bpf_jit_enabled: sysctl("net/core/bpf_jit_enable"),
            versions,
        })
    }

    /// Of what moves figures without a change of this project, each with what it was `then` and is now.
    pub(crate) fn differences(&self, then: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        let mut compare = |name: &str, then: &str, now: &str| {
            if then != now {
                differences.push(format!("{name}: {then} then, {now} now"));
            }
        };
        compare("kernel", &then.kernel, &self.kernel);
        compare("processor", &then.processor, &self.processor);
        compare("cores", &then.cores.to_string(), &self.cores.to_string());
        compare("eBPF run statistics", &then.bpf_stats_enabled, &self.bpf_stats_enabled);
        compare("eBPF JIT", &then.bpf_jit_enabled, &self.bpf_jit_enabled);
        for (what, then, now) in
            [("mitigation", &then.mitigations, &self.mitigations), ("version of", &then.versions, &self.versions)]
        {
            let names: BTreeSet<_> = then.keys().chain(now.keys()).filter(|name| *name != OURS).collect();
            for name in names {
                let value = |of: &BTreeMap<String, String>| of.get(name).cloned().unwrap_or_else(|| "none".into());
                compare(&format!("{what} {name}"), &value(then), &value(now));
            }
        }
        differences
    }
}

fn value_of<'text>(cpuinfo: &'text str, key: &str) -> Option<&'text str> {
    cpuinfo.lines().find_map(|line| Some(line.strip_prefix(key)?.split_once(':')?.1.trim()))
}

fn mitigations() -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(VULNERABILITIES).with_context(|| format!("list {VULNERABILITIES}"))? {
        let entry = entry?;
        let state = fs::read_to_string(entry.path()).with_context(|| format!("read {}", entry.path().display()))?;
        if state.trim() != "Not affected" {
            found.insert(entry.file_name().to_string_lossy().into_owned(), state.trim().to_owned());
        }
    }
    Ok(found)
}

fn sysctl(key: &str) -> String {
    fs::read_to_string(format!("/proc/sys/{key}")).map_or_else(|_| "unknown".into(), |value| value.trim().to_owned())
}

/// Distributions build the plugins without their version, so the package is asked.
fn plugin_version(cni_plugins: &Path) -> String {
    let plugin = cni_plugins.join("bridge");
    let owner = Command::new("dpkg-query").arg("--search").arg(&plugin).output();
    let owner = owner.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    match owner.split_once(':') {
        Some((package, _)) => first_line("dpkg-query", &["--show", package]).replace('\t', " "),
        None if plugin.exists() => format!("unknown, {}", plugin.display()),
        None => "absent".into(),
    }
}

fn first_line(program: &str, arguments: &[&str]) -> String {
    let Ok(output) = Command::new(program).args(arguments).output() else { return "absent".into() };
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    text.lines().next().unwrap_or("unknown").to_owned()
}

impl Machine {
    /// Names and what they are, in the order of the report; a name may come more than once.
    pub(crate) fn facts(&self) -> Vec<(&'static str, String)> {
        let kind = if self.virtual_machine { ", a virtual machine" } else { "" };
        let Cores { client, server } = self.used;
        let mut facts = vec![
            ("Kernel", self.kernel.clone()),
            ("Processor", format!("{}, {} cores{kind}", self.processor, self.cores)),
            ("Load", format!("client on core {client}, server on core {server}; softirq work on the sender's core")),
        ];
        facts.extend(self.mitigations.iter().map(|(name, state)| ("Mitigation", format!("{name}: {state}"))));
        facts.push(("eBPF", format!("JIT {}, run statistics {}", self.bpf_jit_enabled, self.bpf_stats_enabled)));
        facts.extend(self.versions.iter().map(|(name, version)| ("Version", format!("{name}: {version}"))));
        facts
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.facts().into_iter().try_for_each(|(name, fact)| writeln!(f, "{name:<13}{fact}"))
    }
}
