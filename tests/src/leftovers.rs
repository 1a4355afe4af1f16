//! What pods have on a VM: after the last DEL it must all be gone.

use std::{fmt, fs};

use serde_json::Value;

use crate::{
    error::{Attempt, Result},
    ip::query,
    plan::GATEWAY6,
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
    /// Pinned links of programs at interfaces of pods.
    pub pins: Vec<String>,
    /// Endpoints, flows and translations in the data path's maps.
    pub map_entries: Vec<String>,
    /// What the agent has records of.
    pub records: Vec<String>,
    /// How many addresses the agent holds as leased, if any.
    pub leases: Vec<String>,
}

impl Leftovers {
    pub(crate) fn of(vm: &Vm) -> Result<Self> {
        let namespace = vm.namespace();
        let mut found = Self::default();
        for link in query(namespace, "link show")? {
            found.links.extend(of_pod(&link["ifname"]).then(|| text(&link["ifname"])));
        }
        let own: Vec<String> =
            [Some(vm.address().to_string()), vm.address6().map(|own| own.to_string())].into_iter().flatten().collect();
        for family in ["-4", "-6"] {
            for route in query(namespace, &format!("{family} route show table all"))? {
                let to = text(&route["dst"]);
                let single = !to.contains('/') && to != "default" && route["type"] == "unicast" && !own.contains(&to);
                found.routes.extend(single.then(|| format!("{to} dev {}", text(&route["dev"]))));
            }
        }
        for neighbour in query(namespace, "neigh show nud all")? {
            let is = |state: &str| neighbour["state"].as_array().is_some_and(|states| states.contains(&state.into()));
            let line = || format!("{} dev {}", text(&neighbour["dst"]), text(&neighbour["dev"]));
            // Groups that the kernel itself talks to (NOARP) come and go as it likes; the VM's gateway is no pod's.
            let gateway = text(&neighbour["dst"]) == GATEWAY6.to_string() && !of_pod(&neighbour["dev"]);
            let counts = is("PERMANENT") || (of_pod(&neighbour["dev"]) && !is("NOARP"));
            found.neighbours.extend((counts && !gateway).then(line));
        }
        found.pins = pinned_links(vm)?;
        found.map_entries = vm.pool_in_maps()?;
        found.records = vm.endpoints()?.iter().map(|endpoint| endpoint["attachment"].to_string()).collect();
        let leased = vm.status()?["pool"]["leased"].clone();
        found.leases.extend((leased != 0).then(|| leased.to_string()));
        for (_, list) in found.lists_mut() {
            list.sort();
        }
        Ok(found)
    }

    /// Whether there is nothing at all.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn lists_mut(&mut self) -> [(&'static str, &mut Vec<String>); 7] {
        [
            ("links", &mut self.links),
            ("routes", &mut self.routes),
            ("neighbours", &mut self.neighbours),
            ("pins", &mut self.pins),
            ("map entries", &mut self.map_entries),
            ("records", &mut self.records),
            ("leases", &mut self.leases),
        ]
    }
}

impl fmt::Display for Leftovers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, list) in self.clone().lists_mut() {
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

/// Those of the uplink stay as long as the agent is installed.
fn pinned_links(vm: &Vm) -> Result<Vec<String>> {
    let dir = vm.pins("links");
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(&dir).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    let names = entries.attempt(|| format!("list {}", dir.display()))?.into_iter();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    Ok(names.filter(|name| name.starts_with("azv")).collect())
}
