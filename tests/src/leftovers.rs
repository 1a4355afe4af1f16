//! What pods have on a VM: after the last DEL it must all be gone.

use std::{fmt, fs, path::Path};

use serde_json::Value;

use crate::{
    error::{Attempt, Result},
    ip::query,
    station::Station,
    vm::Vm,
};

/// The traces of pods on a VM, in a form that compares and prints.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Interfaces that attach pods (`azv*`).
    pub links: Vec<String>,
    /// Routes to single addresses, whatever the table; those of the VM's own are not among them.
    pub routes: Vec<String>,
    /// Permanent neighbours, and all those on interfaces of pods.
    pub neighbours: Vec<String>,
    /// Files below the agent's directory on its bpf file system. Those that are not of a pod stay as long as the agent is installed:
    /// compare with what was there before the first pod.
    pub pins: Vec<String>,
}

impl Leftovers {
    pub(crate) fn of(vm: &Vm) -> Result<Self> {
        let namespace = vm.namespace();
        let mut found = Self::default();
        for link in query(namespace, "link show")? {
            found.links.extend(of_pod(&link["ifname"]).then(|| text(&link["ifname"])));
        }
        for route in query(namespace, "-4 route show table all")? {
            let single = !text(&route["dst"]).contains('/') && route["type"] == "unicast" && route["dst"] != "default";
            found.routes.extend(single.then(|| format!("{} dev {}", text(&route["dst"]), text(&route["dev"]))));
        }
        for neighbour in query(namespace, "neigh show nud all")? {
            let permanent = neighbour["state"].as_array().is_some_and(|states| states.contains(&"PERMANENT".into()));
            let line = || format!("{} dev {}", text(&neighbour["dst"]), text(&neighbour["dev"]));
            found.neighbours.extend((permanent || of_pod(&neighbour["dev"])).then(line));
        }
        let root = vm.bpffs_dir();
        if root.exists() {
            pins(&root, &root, &mut found.pins)?;
        }
        for list in [&mut found.links, &mut found.routes, &mut found.neighbours, &mut found.pins] {
            list.sort();
        }
        Ok(found)
    }

    /// Whether there is nothing at all.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Leftovers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, list) in
            [("links", &self.links), ("routes", &self.routes), ("neighbours", &self.neighbours), ("pins", &self.pins)]
        {
            writeln!(f, "{what}: {}", if list.is_empty() { "none".into() } else { list.join(", ") })?;
        }
        Ok(())
    }
}

fn of_pod(interface: &Value) -> bool {
    interface.as_str().is_some_and(|name| name.starts_with("azv"))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().into()
}

fn pins(root: &Path, dir: &Path, found: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(dir).attempt(|| format!("list {}", dir.display()))? {
        let path = entry.attempt(|| format!("list {}", dir.display()))?.path();
        if path.is_dir() {
            pins(root, &path, found)?;
        } else {
            found.push(path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned());
        }
    }
    Ok(())
}
