//! SIGHUP: the configuration is read again, and what may change of it while the agent runs takes effect.

use std::sync::Arc;

use super::{follow_endpoints, follow_masq_dir};
use crate::agent::Agent;
use crate::config::{AgentConfig, ConfigError, RoutingConfig};
use crate::verbs::publish_routes;

/// Applies `[routing]` of what was read, and says which keys have to wait for the next start.
pub async fn reload(agent: &Arc<Agent>, read: Result<AgentConfig, ConfigError>) {
    let asked = match read {
        Ok(asked) => asked,
        Err(error) => return tracing::error!(%error, "the configuration was read again; what was in force stays"),
    };
    let mut later = agent.config.differing_keys(&asked);
    later.retain(|key| !key.starts_with("routing."));
    let (routing, keys) = applicable(&agent.config.routing, asked.routing);
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
    follow_masq_dir(agent).await?;
    publish_routes(agent).await?;
    follow_endpoints(agent).await
}

/// What of `asked` can take effect with the programs that were loaded at the start, and the keys of which that is not true.
///
/// Whether the service prefixes are known at all is the programs' to know: a list that goes away stays in force, or
/// packets to services would take the short way to the wire.
fn applicable(started: &RoutingConfig, mut asked: RoutingConfig) -> (RoutingConfig, Vec<&'static str>) {
    let mut later = Vec::new();
    if asked.service_prefixes.is_some() != started.service_prefixes.is_some() {
        asked.service_prefixes = started.service_prefixes.clone();
        later.push("routing.service_prefixes");
    }
    if asked.block_imds != started.block_imds {
        asked.block_imds = started.block_imds;
        later.push("routing.block_imds");
    }
    (asked, later)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routing(text: &str) -> RoutingConfig {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn what_the_programs_were_loaded_with_waits_for_the_next_start() {
        for (started, asked, in_force, later) in [
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
            assert_eq!(applicable(&routing(started), routing(asked)), expected, "{started:?} to {asked:?}");
        }
    }
}
