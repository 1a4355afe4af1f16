//! Holds the documents against the types: a key in one and not in the other, or with another default, fails.
//!
//! The keys are asked of the reader itself: a key it does not know makes it list those it does.

use std::collections::BTreeMap;
use std::path::Path;

use super::AgentConfig;

const REFERENCE: &str = include_str!("../../../docs/configuration.md");
const EXAMPLE: &str = include_str!("../../../deploy/agent.toml");

/// Dotted key and default of every key the reader knows; `None` where there is no default.
fn keys_of_the_types() -> BTreeMap<String, Option<String>> {
    let defaults = toml::Table::try_from(AgentConfig::default()).unwrap();
    let mut keys = BTreeMap::new();
    for name in known_fields("").expect("the top level has keys") {
        match known_fields(&name) {
            None => drop(keys.insert(name.clone(), defaults.get(&name).map(ToString::to_string))),
            Some(fields) => keys.extend(fields.into_iter().map(|field| {
                let default = defaults[&name].get(&field).map(ToString::to_string);
                (format!("{name}.{field}"), default)
            })),
        }
    }
    keys
}

/// The keys of a section, or `None` if the name is not a section's.
fn known_fields(section: &str) -> Option<Vec<String>> {
    const PROBE: &str = "no_such_key";
    let header = if section.is_empty() { String::new() } else { format!("[{section}]\n") };
    let error = toml::from_str::<AgentConfig>(&format!("{header}{PROBE} = 0")).expect_err("the probe is not a key");
    let (_, expected) = error.message().strip_prefix(&format!("unknown field `{PROBE}`"))?.split_once("expected")?;
    Some(expected.split('`').skip(1).step_by(2).map(str::to_owned).collect())
}

/// First two columns of every table row that starts with a key.
fn keys_of_the_reference() -> BTreeMap<String, Option<String>> {
    let rows = REFERENCE.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| {
        let (key, rest) = row.split_once("` | ").expect(row);
        let (default, _) = rest.split_once(" | ").expect(row);
        let default = if default == "none" { None } else { Some(default.trim_matches('`').to_owned()) };
        (key.to_owned(), default)
    })
    .collect()
}

/// The example with what `marker` introduces made real, flattened to dotted keys.
fn keys_of_the_example(marker: &str) -> BTreeMap<String, Option<String>> {
    let table: toml::Table = uncommented(marker).parse().unwrap();
    let mut keys = BTreeMap::new();
    for (name, value) in table {
        match value {
            toml::Value::Table(section) => {
                keys.extend(section.into_iter().map(|(key, v)| (format!("{name}.{key}"), Some(v.to_string()))));
            }
            value => drop(keys.insert(name, Some(value.to_string()))),
        }
    }
    keys
}

fn uncommented(marker: &str) -> String {
    let starts_a_key = |rest: &str| rest.starts_with(|c: char| c.is_ascii_lowercase());
    let lines = EXAMPLE.lines().map(|line| line.strip_prefix(marker).filter(|rest| starts_a_key(rest)).unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_reference_has_exactly_the_keys_of_the_types_with_their_defaults() {
    assert_eq!(keys_of_the_reference(), keys_of_the_types());
}

#[test]
fn the_example_as_it_ships_changes_nothing() {
    let config = AgentConfig::parse(EXAMPLE, Path::new("deploy/agent.toml")).unwrap();
    assert_eq!(config, AgentConfig::default());
}

#[test]
fn the_example_shows_every_default_and_nothing_else() {
    let config = AgentConfig::parse(&uncommented("#"), Path::new("deploy/agent.toml")).unwrap();
    assert_eq!(config, AgentConfig::default());
    let defaults = keys_of_the_types().into_iter().filter(|(_, default)| default.is_some()).collect();
    assert_eq!(keys_of_the_example("#"), defaults);
}

#[test]
fn the_example_shows_every_key_without_default_in_a_valid_form() {
    AgentConfig::parse(&uncommented("# Example: "), Path::new("deploy/agent.toml")).unwrap();
    let shown: Vec<_> = keys_of_the_example("# Example: ").into_keys().collect();
    let without: Vec<_> = keys_of_the_types().into_iter().filter(|(_, default)| default.is_none()).collect();
    assert_eq!(shown, without.into_iter().map(|(key, _)| key).collect::<Vec<_>>());
}
