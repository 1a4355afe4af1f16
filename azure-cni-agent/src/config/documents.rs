//! Writes the tables of the reference from the types, and compares the example with them: a key that only one of them has,
//! or another default, fails.
//!
//! The list of keys comes from the reader itself: its error for an unknown key lists all keys. The meaning of a key is the
//! comment of its field.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use super::AgentConfig;

const REFERENCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
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

/// The table of a section, in the order of its fields; of the top level if the name is empty.
fn table_of(section: &str) -> String {
    let settings = schemars::generate::SchemaSettings::default().with(|settings| settings.inline_subschemas = true);
    let schema = settings.into_generator().into_root_schema_for::<AgentConfig>().to_value();
    let (fields, prefix) = match section {
        "" => (&schema["properties"], String::new()),
        section => (&schema["properties"][section]["properties"], format!("{section}.")),
    };
    let defaults = keys_of_the_types();
    let mut table = "| Key | Default | Meaning |\n|---|---|---|\n".to_owned();
    for field in known_fields(section).unwrap_or_else(|| panic!("there is no section {section}")) {
        let key = format!("{prefix}{field}");
        // A section of its own has no row in the table above it.
        let Some(default) = defaults.get(&key) else { continue };
        let default = default.as_ref().map_or("none".to_owned(), |default| format!("`{default}`"));
        let meaning =
            fields[&field]["description"].as_str().unwrap_or_else(|| panic!("{key}: its field has no comment"));
        writeln!(table, "| `{key}` | {default} | {} |", meaning.split_whitespace().collect::<Vec<_>>().join(" "))
            .unwrap();
    }
    table
}

/// The reference with every table written again.
fn with_tables(reference: &str) -> String {
    const BEGIN: &str = "<!-- keys: ";
    const END: &str = "<!-- end of keys -->";
    let mut parts = reference.split(BEGIN);
    let mut made = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once(" -->\n").expect("a marker ends its line");
        let (_, after) = rest.split_once(END).expect("every table has an end");
        let section = if name == "top level" { "" } else { name };
        write!(made, "{BEGIN}{name} -->\n{}{END}{after}", table_of(section)).unwrap();
    }
    made
}

/// The example's lines that `marker` comments out, as dotted keys.
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
fn the_reference_is_written_from_the_types() {
    let found = std::fs::read_to_string(REFERENCE).unwrap();
    let wanted = with_tables(&found);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(REFERENCE, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(REFERENCE).unwrap();
    assert_eq!(found, wanted, "out of date: run `UPDATE_DOCS=1 cargo test -p azure-cni-agent the_reference`");
}

#[test]
fn every_key_has_one_row() {
    let reference = std::fs::read_to_string(REFERENCE).unwrap();
    for key in keys_of_the_types().into_keys() {
        assert_eq!(reference.matches(&format!("\n| `{key}` | ")).count(), 1, "{key}");
    }
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
