//! Finds what pods have left behind on a VM: in the kernel, in the data path, and at the agent.

use std::fs;

use serde_json::Value;

use crate::{
    error::{Attempt, Error, Result},
    ip::query,
    leftovers::Leftovers,
    plan::GATEWAY6,
    station::Station,
    vm::Vm,
};

impl Vm {
    /// The traces of pods on this VM. The agent must run, because it is asked too.
    pub fn leftovers(&self) -> Result<Leftovers> {
        let namespace = self.namespace();
        let mut found = Leftovers::default();
        for link in query(namespace, "link show")? {
            found.links.extend(of_pod(&link["ifname"]).then(|| text(&link["ifname"])));
        }
        let own: Vec<String> = [Some(self.address().to_string()), self.address6().map(|own| own.to_string())]
            .into_iter()
            .flatten()
            .collect();
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
            // The kernel adds and removes groups (NOARP) by itself. The VM's gateway is not a trace of a pod.
            let gateway = text(&neighbour["dst"]) == GATEWAY6.to_string() && !of_pod(&neighbour["dev"]);
            let counts = is("PERMANENT") || (of_pod(&neighbour["dev"]) && !is("NOARP"));
            found.neighbours.extend((counts && !gateway).then(line));
        }
        found.pins = pinned_links(self)?;
        found.map_entries = self.pool_in_maps()?;
        found.records = self.endpoints()?.iter().map(|endpoint| endpoint["attachment"].to_string()).collect();
        let leased = self.status()?["pool"]["leased"].clone();
        found.leases.extend((leased != 0).then(|| leased.to_string()));
        found.sort();
        Ok(found)
    }

    /// Fails with everything that pods have left behind, if there is anything.
    pub fn expect_clean(&self) -> Result<()> {
        let found = self.leftovers()?;
        if found.is_empty() {
            return Ok(());
        }
        Err(Error::Leftovers { vm: self.name().into(), found: Box::new(found) })
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
