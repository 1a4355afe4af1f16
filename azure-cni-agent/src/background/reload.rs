//! SIGHUP: the agent reads its configuration again, and applies what may change while it runs.

use std::sync::Arc;

use super::sync_endpoints::sync_endpoints;
use super::sync_masq_dir::sync_masq_dir;
use crate::agent::Agent;
use crate::config::{AgentConfig, ConfigError, RoutingConfig};
use crate::verbs::publish_routes;

/// Applies `[routing]` of what was read, and says which keys have to wait for the next start.
pub async fn reload(agent: &Arc<Agent>, read: Result<AgentConfig, ConfigError>) {
    let new = match read {
        Ok(new) => new,
        Err(error) => {
            return tracing::error!(%error, "the configuration was read again and is invalid; what was in force stays");
        }
    };
    let mut later = agent.config.differing_keys(&new);
    later.retain(|key| !key.starts_with("routing."));
    let (routing, keys) = applicable(&agent.config.routing, new.routing);
    later.extend(keys.iter().map(|key| (*key).to_owned()));
    if !later.is_empty() {
        tracing::warn!(keys = later.join(", "), "takes effect at the next start");
    }
    agent.routing().replace(routing);
    match apply(agent).await {
        Ok(()) => tracing::info!("the configuration was read again; [routing] is in force"),
        Err(error) => tracing::error!(error = format!("{error:#}"), "applying [routing]"),
    }
}

async fn apply(agent: &Arc<Agent>) -> anyhow::Result<()> {
    agent.sync_public_addresses();
    sync_masq_dir(agent).await?;
    publish_routes(agent).await?;
    sync_endpoints(agent).await
}

/// The part of `new` that can take effect with the programs that were loaded at the start, and the keys that cannot.
///
/// The programs were loaded with whether the service prefixes are known at all. So a list that is removed stays in force:
/// otherwise packets to services would take the short way to the wire.
fn applicable(started: &RoutingConfig, mut new: RoutingConfig) -> (RoutingConfig, Vec<&'static str>) {
    let mut later = Vec::new();
    if new.service_prefixes.is_some() != started.service_prefixes.is_some() {
        new.service_prefixes = started.service_prefixes.clone();
        later.push("routing.service_prefixes");
    }
    if new.block_imds != started.block_imds {
        new.block_imds = started.block_imds;
        later.push("routing.block_imds");
    }
    (new, later)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routing(text: &str) -> RoutingConfig {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn what_the_programs_were_loaded_with_waits_for_the_next_start() {
        for (started, new, in_force, later) in [
            ("", "", "", vec![]),
            ("", "vnet_prefixes = ['10.0.0.0/8']", "vnet_prefixes = ['10.0.0.0/8']", vec![]),
            ("", "service_prefixes = []", "", vec!["routing.service_prefixes"]),
            (
                "service_prefixes = ['10.0.0.0/16']",
                "",
                "service_prefixes = ['10.0.0.0/16']",
                vec!["routing.service_prefixes"],
            ),
            ("service_prefixes = ['10.0.0.0/16']", "service_prefixes = []", "service_prefixes = []", vec![]),
            (
                "block_imds = true",
                "host_addresses = ['10.0.0.9']",
                "block_imds = true\nhost_addresses = ['10.0.0.9']",
                vec!["routing.block_imds"],
            ),
        ] {
            let expected = (routing(in_force), later);
            assert_eq!(applicable(&routing(started), routing(new)), expected, "{started:?} to {new:?}");
        }
    }
}
