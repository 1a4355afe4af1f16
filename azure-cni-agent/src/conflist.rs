//! The runtime's network configuration. The agent writes it once it serves, as a runtime that finds one reports the node as
//! ready.
//!
//! The rule: an existing file is the operator's, and the agent never changes it.

use std::io::ErrorKind;

use azure_cni_api::durable;
use serde_json::Value;

use crate::config::AgentConfig;

/// The file as shipped, for an agent with the default configuration.
const SHIPPED: &str = include_str!("../../deploy/10-azure.conflist");

/// Writes the file that `conflist` names, if it is absent; true if it was written.
pub fn publish(config: &AgentConfig) -> std::io::Result<bool> {
    let Some(path) = &config.conflist else { return Ok(false) };
    let Some(dir) = path.parent() else {
        return Err(std::io::Error::new(ErrorKind::InvalidInput, "conflist names no file"));
    };
    durable::create_dir(dir, 0o755)?;
    durable::create(path, text(config)?.as_bytes(), 0o644)
}

/// The shipped configuration, with this agent's socket and spool if they are not the defaults.
fn text(config: &AgentConfig) -> serde_json::Result<String> {
    let defaults = AgentConfig::default();
    let mut conflist: Value = serde_json::from_str(SHIPPED)?;
    for (key, path, default) in
        [("agentSocket", &config.socket, &defaults.socket), ("spoolDir", &config.spool_dir, &defaults.spool_dir)]
    {
        if path != default {
            conflist["plugins"][0][key] = path.to_string_lossy().into();
        }
    }
    Ok(format!("{conflist:#}\n"))
}

#[cfg(test)]
mod tests {
    use azure_cni_api::cni::{CAPABILITIES, CniVersion, Invocation};
    use serde_json::json;

    use super::*;

    fn shipped() -> Value {
        serde_json::from_str(SHIPPED).unwrap()
    }

    #[test]
    fn the_shipped_one_is_understood_by_old_and_new_runtimes() {
        let conflist = shipped();
        assert_eq!(conflist["cniVersion"], "0.3.1");
        assert_eq!(conflist["cniVersions"], json!(["0.3.1", "0.4.0", "1.0.0", "1.1.0"]));
        for version in CniVersion::SUPPORTED {
            let mut netconf = conflist["plugins"][0].clone();
            netconf["cniVersion"] = json!(version);
            netconf["name"] = conflist["name"].clone();
            let environment = azure_cni_api::cni::sample::environment();
            let Invocation::Add(call) = Invocation::parse(&environment, &netconf).unwrap() else {
                panic!("not an ADD")
            };
            assert_eq!(call.config.ignored, [""; 0]);
        }
    }

    #[test]
    fn the_shipped_one_declares_exactly_the_capabilities_that_are_served() {
        let conflist = shipped();
        let declared: Vec<_> = conflist["plugins"][0]["capabilities"].as_object().unwrap().iter().collect();
        let mut served: Vec<_> = CAPABILITIES.map(|name| (name.to_owned(), json!(true))).into();
        served.sort_by(|one, other| one.0.cmp(&other.0));
        assert_eq!(declared, served.iter().map(|(name, value)| (name, value)).collect::<Vec<_>>());
    }

    #[test]
    fn only_what_differs_from_the_defaults_is_added() {
        let default = AgentConfig::default();
        assert_eq!(serde_json::from_str::<Value>(&text(&default).unwrap()).unwrap(), shipped());
        let moved = AgentConfig { socket: "/a/b".into(), spool_dir: "/a/spool".into(), ..default };
        let conflist: Value = serde_json::from_str(&text(&moved).unwrap()).unwrap();
        let ours = &conflist["plugins"][0];
        assert_eq!((&ours["agentSocket"], &ours["spoolDir"]), (&json!("/a/b"), &json!("/a/spool")));
    }

    #[test]
    fn an_existing_file_is_not_changed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("net.d/10-azure.conflist");
        let config = AgentConfig { conflist: Some(path.clone()), ..AgentConfig::default() };
        assert!(publish(&config).unwrap());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text(&config).unwrap());
        std::fs::write(&path, "the operator's").unwrap();
        assert!(!publish(&config).unwrap());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "the operator's");
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        assert!(!publish(&AgentConfig::default()).unwrap());
    }
}
