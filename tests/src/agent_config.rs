//! The `agent.toml` of a VM: what its place needs, with a test's own keys laid over.

use std::path::Path;

use toml::{Table, Value};

use crate::plan::{HOST_ADDRESS, PEERED_PREFIX, PEERED_PREFIX6, VNET_PREFIX, VNET_PREFIX6};

/// The names of what an agent owns, all below the VM's own directory.
pub(crate) const SOCKET: &str = "agent.sock";
pub(crate) const POOL: &str = "pool.xml";
pub(crate) const STATE: &str = "state";
pub(crate) const SPOOL: &str = "spool";
pub(crate) const BPFFS: &str = "bpf";
/// The agent makes its own directory on the bpf file system, as with the default `/sys/fs/bpf/azure-cni`.
pub(crate) const PINS: &str = "bpf/azure-cni";

/// The configuration of an agent that keeps everything below `dir`.
pub(crate) fn compose(dir: &Path, dual_stack: bool, overlay: &Table) -> Table {
    let mut vnet_prefixes = vec![VNET_PREFIX, PEERED_PREFIX];
    if dual_stack {
        vnet_prefixes.extend([VNET_PREFIX6, PEERED_PREFIX6]);
    }
    let path = |name: &str| Value::from(dir.join(name).to_string_lossy().into_owned());
    let mut config = Table::from_iter([
        ("uplink".into(), Value::from("eth0")),
        ("socket".into(), path(SOCKET)),
        ("state_dir".into(), path(STATE)),
        ("bpffs_dir".into(), path(PINS)),
        ("spool_dir".into(), path(SPOOL)),
        ("log_level".into(), Value::from("info")),
        (
            "pool".into(),
            Value::Table(Table::from_iter([("source", Value::from("file")), ("file", path(POOL))].map(owned))),
        ),
        (
            "routing".into(),
            Value::Table(Table::from_iter(
                [
                    ("vnet_prefixes", Value::from(vnet_prefixes)),
                    ("host_addresses", Value::from(vec![HOST_ADDRESS.to_string()])),
                ]
                .map(owned),
            )),
        ),
    ]);
    lay_over(&mut config, overlay.clone());
    config
}

/// Puts the keys of `overlay` over those of `base`, table by table.
pub(crate) fn lay_over(base: &mut Table, overlay: Table) {
    for (key, value) in overlay {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => lay_over(below, above),
            (_, value) => drop(base.insert(key, value)),
        }
    }
}

fn owned((key, value): (&str, Value)) -> (String, Value) {
    (key.into(), value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlay_changes_only_the_keys_it_names() {
        let overlay = "log_level = 'debug'\nrouting.service_prefixes = ['10.0.0.0/16']".parse().expect("TOML");
        let config = compose(Path::new("/run/vms/vm1"), false, &overlay);
        assert_eq!(config["log_level"].as_str(), Some("debug"));
        assert_eq!(config["uplink"].as_str(), Some("eth0"));
        assert_eq!(config["routing"]["service_prefixes"].as_array().map(Vec::len), Some(1));
        assert_eq!(config["routing"]["vnet_prefixes"].as_array().map(Vec::len), Some(2));
    }
}
