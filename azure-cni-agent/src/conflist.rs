//! The runtime's network configuration. The agent writes it once it serves, as a runtime that finds one reports the node as
//! ready; and again when the plugins that it names speak other versions of CNI.
//!
//! The rule: a file that the agent did not write is the operator's, and the agent never changes it. It has written a file that is,
//! but for the versions, what it would write now.

mod chain;

use std::collections::BTreeSet;
use std::io::{Error, ErrorKind};
use std::path::Path;
use std::sync::{Arc, PoisonError};

use azure_cni_api::cni::CniVersion;
use azure_cni_api::durable;
pub use chain::{Chain, ask_chain};
use serde_json::{Value, json};

use crate::agent::Agent;
use crate::config::AgentConfig;

/// The file as shipped, for an agent with the default configuration.
const SHIPPED: &str = include_str!("../../deploy/10-azure.conflist");

/// What all runtimes of today understand: the version that a runtime takes that knows no list of them.
const OLDEST: CniVersion = CniVersion::V0_3_1;

/// Whether an absent file is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// At the start.
    Write,
    /// Later: somebody has removed it.
    Leave,
}

/// Asks the chain, and brings the file that `conflist` names in line. What is wrong becomes a finding.
pub async fn sync(agent: &Arc<Agent>, absent: Absent) {
    let Some(path) = &agent.config.conflist else { return };
    let Chain { versions, mut problems } = ask_chain(&others(), &agent.config.cni_bin_dirs).await;
    match publish(&agent.config, &versions, absent) {
        Ok(true) => tracing::info!(versions = joined(&versions), "the runtime's network configuration is written"),
        Ok(false) => {}
        Err(error) => {
            problems.push(format!("the runtime's network configuration cannot be written (conflist): {error}"))
        }
    }
    problems.extend(chained_bandwidth(path));
    let mut known = agent.chain_problems.lock().unwrap_or_else(PoisonError::into_inner);
    for problem in problems.iter().filter(|problem| !known.contains(problem)) {
        tracing::error!(problem, "the runtime's network configuration");
    }
    *known = problems;
}

/// What the plugin `bandwidth` does behind ours: packets that are redirected pass no queue of the host veth, and the place of the one
/// that it would add is taken.
fn chained_bandwidth(path: &Path) -> Option<String> {
    let conflist: Value = serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()?;
    let is_chained = conflist["plugins"].as_array()?.iter().any(|plugin| plugin["type"] == "bandwidth");
    is_chained.then(|| {
        format!(
            "{} chains the plugin bandwidth, with which pods that have limits fail or are not limited: take it out, and give \
             azure-cni \"capabilities\": {{\"bandwidth\": true}}, which serves them itself",
            path.display()
        )
    })
}

/// The plugins of the chain that are not ours.
fn others() -> Vec<String> {
    let conflist: Value = serde_json::from_str(SHIPPED).unwrap_or_default();
    let plugins = conflist["plugins"].as_array().into_iter().flatten().skip(1);
    plugins.filter_map(|plugin| plugin["type"].as_str().map(str::to_owned)).collect()
}

/// Writes the file unless it is the operator's, or right; true if it was written.
fn publish(config: &AgentConfig, versions: &BTreeSet<CniVersion>, absent: Absent) -> std::io::Result<bool> {
    let Some(path) = &config.conflist else { return Ok(false) };
    let Some(dir) = path.parent() else { return Err(Error::new(ErrorKind::InvalidInput, "conflist names no file")) };
    let wanted = text(config, &versions.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    match std::fs::read_to_string(path) {
        Ok(present) if present != wanted && is_ours(config, &present) => {
            durable::replace(path, wanted.as_bytes(), 0o644)?;
            Ok(true)
        }
        Ok(_) => Ok(false),
        Err(error) if error.kind() == ErrorKind::NotFound && absent == Absent::Write => {
            durable::create_dir(dir, 0o755)?;
            durable::create(path, wanted.as_bytes(), 0o644)
        }
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidData) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether the agent writes this text if the chain speaks the versions that it names.
fn is_ours(config: &AgentConfig, present: &str) -> bool {
    let Ok(conflist) = serde_json::from_str::<Value>(present) else { return false };
    let versions = conflist["cniVersions"].as_array().into_iter().flatten();
    let versions: Vec<String> = versions.filter_map(|version| version.as_str().map(str::to_owned)).collect();
    text(config, &versions).is_ok_and(|ours| ours == present)
}

/// The shipped configuration with these versions, and with this agent's socket and spool if they are not the defaults.
fn text(config: &AgentConfig, versions: &[String]) -> serde_json::Result<String> {
    let defaults = AgentConfig::default();
    let mut conflist: Value = serde_json::from_str(SHIPPED)?;
    let offered: Vec<&String> =
        versions.iter().filter(|version| version.parse::<CniVersion>().is_ok_and(|it| it >= OLDEST)).collect();
    if let Some(first) = offered.first() {
        conflist["cniVersion"] = json!(first);
    }
    conflist["cniVersions"] = json!(offered);
    for (key, path, default) in
        [("agentSocket", &config.socket, &defaults.socket), ("spoolDir", &config.spool_dir, &defaults.spool_dir)]
    {
        if path != default {
            conflist["plugins"][0][key] = path.to_string_lossy().into();
        }
    }
    Ok(format!("{conflist:#}\n"))
}

fn joined(versions: &BTreeSet<CniVersion>) -> String {
    versions.iter().map(|version| version.as_str()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use azure_cni_api::cni::{CAPABILITIES, Invocation};

    use super::*;

    fn shipped() -> Value {
        serde_json::from_str(SHIPPED).unwrap()
    }

    fn versions(newest: CniVersion) -> BTreeSet<CniVersion> {
        CniVersion::SUPPORTED.into_iter().filter(|version| *version <= newest).collect()
    }

    #[test]
    fn the_shipped_one_is_understood_by_every_runtime_and_by_the_portmap_of_distributions() {
        let conflist = shipped();
        assert_eq!(conflist["cniVersion"], "0.3.1");
        assert_eq!(conflist["cniVersions"], json!(["0.3.1", "0.4.0", "1.0.0"]));
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
        assert_eq!(others(), ["portmap"]);
    }

    #[test]
    fn only_what_differs_from_the_defaults_is_added() {
        let default = AgentConfig::default();
        let shipped_versions = ["0.3.1", "0.4.0", "1.0.0"].map(str::to_owned);
        assert_eq!(serde_json::from_str::<Value>(&text(&default, &shipped_versions).unwrap()).unwrap(), shipped());
        let moved = AgentConfig { socket: "/a/b".into(), spool_dir: "/a/spool".into(), ..default };
        let conflist: Value = serde_json::from_str(&text(&moved, &shipped_versions).unwrap()).unwrap();
        let ours = &conflist["plugins"][0];
        assert_eq!((&ours["agentSocket"], &ours["spoolDir"]), (&json!("/a/b"), &json!("/a/spool")));
    }

    /// Offered versions, and what was written.
    fn offered(path: &Path) -> Value {
        serde_json::from_str::<Value>(&std::fs::read_to_string(path).unwrap()).unwrap()["cniVersions"].clone()
    }

    #[test]
    fn the_agent_s_own_file_follows_the_chain_and_the_operator_s_is_never_changed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("net.d/10-azure.conflist");
        let config = AgentConfig { conflist: Some(path.clone()), ..AgentConfig::default() };
        let (older, newer) = (versions(CniVersion::V1_0_0), versions(CniVersion::V1_1_0));
        assert!(!publish(&config, &older, Absent::Leave).unwrap() && !path.exists());
        assert!(publish(&config, &older, Absent::Write).unwrap());
        assert_eq!(offered(&path), json!(["0.3.1", "0.4.0", "1.0.0"]));
        for absent in [Absent::Leave, Absent::Write] {
            assert!(!publish(&config, &older, absent).unwrap(), "it is right");
            assert!(publish(&config, &newer, absent).unwrap());
            assert_eq!(offered(&path), json!(["0.3.1", "0.4.0", "1.0.0", "1.1.0"]));
            assert!(publish(&config, &older, absent).unwrap());
            assert_eq!(offered(&path), json!(["0.3.1", "0.4.0", "1.0.0"]));
        }
        let mut edited: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        edited["plugins"][0]["mtu"] = json!(1400);
        for operators in [format!("{edited:#}\n"), "the operator's".to_owned(), String::new()] {
            std::fs::write(&path, &operators).unwrap();
            assert!(!publish(&config, &newer, Absent::Write).unwrap());
            assert_eq!(std::fs::read_to_string(&path).unwrap(), operators);
        }
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        assert!(!publish(&AgentConfig::default(), &newer, Absent::Write).unwrap());
    }

    #[test]
    fn the_bandwidth_plugin_behind_ours_is_a_problem_that_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("10-azure.conflist");
        assert_eq!(chained_bandwidth(&path), None);
        for (text, is_problem) in [
            (SHIPPED.to_owned(), false),
            ("not JSON".to_owned(), false),
            (SHIPPED.replace("\"portmap\"", "\"bandwidth\""), true),
        ] {
            std::fs::write(&path, &text).unwrap();
            let problem = chained_bandwidth(&path);
            assert_eq!(problem.is_some(), is_problem, "{text}");
            if let Some(problem) = problem {
                assert!(problem.contains("take it out") && problem.contains("10-azure.conflist"), "{problem}");
            }
        }
    }

    #[test]
    fn a_chain_with_nothing_in_common_offers_nothing() {
        let conflist: Value = serde_json::from_str(&text(&AgentConfig::default(), &[]).unwrap()).unwrap();
        assert_eq!((&conflist["cniVersion"], &conflist["cniVersions"]), (&json!("0.3.1"), &json!([])));
    }
}
