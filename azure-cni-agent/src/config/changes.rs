//! Which keys differ between two configurations.

use super::AgentConfig;

impl AgentConfig {
    /// The dotted names of the keys whose values differ, in order.
    pub fn differing_keys(&self, other: &Self) -> Vec<String> {
        let table = |config| toml::Table::try_from(config).expect("every configuration can be written as TOML");
        let mut keys = Vec::new();
        collect("", &table(self), &table(other), &mut keys);
        keys.sort();
        keys
    }
}

/// A key may be in one of the tables only: one without default.
fn collect(prefix: &str, one: &toml::Table, other: &toml::Table, keys: &mut Vec<String>) {
    for (name, value) in one {
        match (value, other.get(name)) {
            (toml::Value::Table(one), Some(toml::Value::Table(other))) => {
                collect(&format!("{prefix}{name}."), one, other, keys);
            }
            (value, found) if found != Some(value) => keys.push(format!("{prefix}{name}")),
            _ => {}
        }
    }
    keys.extend(other.keys().filter(|name| !one.contains_key(*name)).map(|name| format!("{prefix}{name}")));
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn config(text: &str) -> AgentConfig {
        AgentConfig::parse(text, Path::new("agent.toml")).unwrap()
    }

    #[test]
    fn keys_that_differ_are_named_whether_they_have_a_default_or_not() {
        let one = config("uplink = 'eth0'\nsnat.port_range = '2000-2999'\nrouting.vnet_prefixes = ['10.0.0.0/8']");
        let other =
            config("snat.port_range = '2000-3000'\nrouting.vnet_prefixes = ['10.0.0.0/8']\ndatapath.mtu = 1400");
        assert_eq!(one.differing_keys(&other), ["datapath.mtu", "snat.port_range", "uplink"]);
        assert_eq!(other.differing_keys(&one), ["datapath.mtu", "snat.port_range", "uplink"]);
        assert_eq!(one.differing_keys(&one.clone()), [""; 0]);
    }
}
