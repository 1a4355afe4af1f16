//! The traces of pods on a VM, as a value. After the last DEL there must be none.

use std::fmt;

/// The traces of pods on a VM, in a form that compares and prints.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Interfaces that attach pods (`azv*`).
    pub links: Vec<String>,
    /// Routes to single addresses in any table, without the VM's own.
    pub routes: Vec<String>,
    /// Permanent neighbours, and all those on interfaces of pods.
    pub neighbours: Vec<String>,
    /// Pinned links of programs at interfaces of pods.
    pub pins: Vec<String>,
    /// Endpoints, flows and translations in the data path's maps.
    pub map_entries: Vec<String>,
    /// The agent's records.
    pub records: Vec<String>,
    /// How many addresses the agent holds as leased, if any.
    pub leases: Vec<String>,
}

impl Leftovers {
    /// True if nothing was found.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Sorts each list, so that two values compare.
    pub(crate) fn sort(&mut self) {
        for (_, list) in self.lists_mut() {
            list.sort();
        }
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
