//! The ip-masq-agent's configuration: a directory, usually a mounted ConfigMap, of YAML or JSON files that list the
//! destinations that see the pod's own address.
//!
//! The files are read as the ip-masq-agent reads them: the prefixes of all files add up, link-local destinations are
//! masqueraded if any file says so, keys match in any case, unknown keys are ignored, and a prefix with host bits is refused.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

/// RFC 3927, section 2.1.
const LINK_LOCAL: &str = "169.254.0.0/16";
/// RFC 4291, section 2.4.
const LINK_LOCAL_V6: &str = "fe80::/10";

/// Why a directory gave no rules. A retry helps only once the file, or the directory, is repaired.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MasqError {
    #[error("{}: {problem}", path.display())]
    Unreadable { path: PathBuf, problem: String },
    #[error("{}: {problem}", path.display())]
    Invalid { path: PathBuf, problem: String },
}

/// The files of the directory as they were read. An unchanged snapshot need not be parsed again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot(Vec<(PathBuf, String)>);

impl Snapshot {
    pub fn read(dir: &Path) -> Result<Self, MasqError> {
        let failed = |path: &Path, error: std::io::Error| MasqError::Unreadable {
            path: path.to_owned(),
            problem: error.to_string(),
        };
        let mut files = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(|error| failed(dir, error))? {
            let path = entry.map_err(|error| failed(dir, error))?.path();
            // The kubelet keeps the generations of a ConfigMap in "..data" and similar directories, and links files into them.
            let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            if is_hidden || !path.metadata().map_err(|error| failed(&path, error))?.is_file() {
                continue;
            }
            let text = std::fs::read_to_string(&path).map_err(|error| failed(&path, error))?;
            files.push((path, text));
        }
        files.sort();
        Ok(Self(files))
    }

    /// The prefixes whose destinations see the pod's own address; `None` if there is no file at all.
    pub fn unmasqueraded(&self) -> Result<Option<BTreeSet<IpNet>>, MasqError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let mut all = Rules::default();
        for (path, text) in &self.0 {
            let rules = Rules::parse(text).map_err(|problem| MasqError::Invalid { path: path.clone(), problem })?;
            all.prefixes.extend(rules.prefixes);
            all.masq_link_local |= rules.masq_link_local;
            all.masq_link_local_v6 |= rules.masq_link_local_v6;
        }
        let link_local = [(LINK_LOCAL, all.masq_link_local), (LINK_LOCAL_V6, all.masq_link_local_v6)];
        let kept = link_local.into_iter().filter(|(_, masqueraded)| !masqueraded);
        all.prefixes.extend(kept.map(|(prefix, _)| prefix.parse::<IpNet>().expect("a constant prefix")));
        Ok(Some(all.prefixes))
    }
}

/// The rules of one file.
#[derive(Debug, Default, PartialEq, Eq)]
struct Rules {
    prefixes: BTreeSet<IpNet>,
    masq_link_local: bool,
    masq_link_local_v6: bool,
}

impl Rules {
    /// An empty file has no rules.
    fn parse(text: &str) -> Result<Self, String> {
        let file: Option<Keys> = serde_saphyr::from_str(text).map_err(|error| first_line(&error.to_string()))?;
        let Keys { prefixes, masq_link_local, masq_link_local_v6 } = file.unwrap_or_default();
        let prefixes = prefixes.iter().map(|text| prefix(text)).collect::<Result<_, _>>()?;
        Ok(Self { prefixes, masq_link_local, masq_link_local_v6 })
    }
}

/// The keys of one file, with defaults for absent ones.
#[derive(Default)]
struct Keys {
    prefixes: Vec<String>,
    masq_link_local: bool,
    masq_link_local_v6: bool,
}

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(AnyCase)
    }
}

struct AnyCase;

impl<'de> Visitor<'de> for AnyCase {
    type Value = Keys;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the keys nonMasqueradeCIDRs, masqLinkLocal and masqLinkLocalIPv6")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Keys, M::Error> {
        let mut keys = Keys::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.to_ascii_lowercase().as_str() {
                "nonmasqueradecidrs" => keys.prefixes = map.next_value::<Option<_>>()?.unwrap_or_default(),
                "masqlinklocal" => keys.masq_link_local = map.next_value::<Option<_>>()?.unwrap_or_default(),
                "masqlinklocalipv6" => keys.masq_link_local_v6 = map.next_value::<Option<_>>()?.unwrap_or_default(),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(keys)
    }
}

fn prefix(text: &str) -> Result<IpNet, String> {
    match text.parse::<IpNet>() {
        Ok(net) if net.addr() == net.network() => Ok(net),
        Ok(net) => Err(format!("prefix {text:?} has host bits set; the prefix of that length is \"{}\"", net.trunc())),
        Err(_) => Err(format!("{text:?} is not a prefix, as in \"10.0.0.0/8\"")),
    }
}

/// The parser's message goes on with a picture of the place, which does not fit into a line of the log.
fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rules(text: &str) -> Result<(Vec<String>, bool, bool), String> {
        let rules = Rules::parse(text)?;
        let prefixes = rules.prefixes.iter().map(ToString::to_string).collect();
        Ok((prefixes, rules.masq_link_local, rules.masq_link_local_v6))
    }

    fn snapshot(files: &[&str]) -> Snapshot {
        let named = |(n, text): (usize, &&str)| (PathBuf::from(format!("/masq/{n}")), (*text).to_owned());
        Snapshot(files.iter().enumerate().map(named).collect())
    }

    fn merged(files: &[&str]) -> Option<Vec<String>> {
        let prefixes = snapshot(files).unmasqueraded().unwrap()?;
        Some(prefixes.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn yaml_and_json_in_any_case_are_read_and_unknown_keys_ignored() {
        let both = (vec!["10.0.0.0/8".to_owned(), "fd00::/8".to_owned()], true, false);
        for text in [
            "nonMasqueradeCIDRs:\n  - 10.0.0.0/8\n  - \"fd00::/8\"\nmasqLinkLocal: true\nresyncInterval: 60s\n",
            "# comment\nnonMasqueradeCIDRs: [10.0.0.0/8, 'fd00::/8']\nmasqLinkLocal: true\nmasqLinkLocalIPv6: false",
            r#"{"NonMasqueradeCIDRs":["10.0.0.0/8","fd00::/8"],"MasqLinkLocal":true,"ResyncInterval":"1m0s","x":{"y":[1]}}"#,
            "---\nnonmasqueradecidrs:\n- 10.0.0.0/8\n- fd00::/8\n- 10.0.0.0/8\nmasqlinklocal: true\n",
        ] {
            assert_eq!(rules(text), Ok(both.clone()), "{text:?}");
        }
        assert_eq!(rules("masqLinkLocalIPv6: true"), Ok((vec![], false, true)));
    }

    #[test]
    fn a_file_without_content_has_no_rules() {
        for text in
            ["", "\n", "# nothing\n", "{}", "null", "nonMasqueradeCIDRs:\n", "nonMasqueradeCIDRs: []\nmasqLinkLocal: ~"]
        {
            assert_eq!(rules(text), Ok((vec![], false, false)), "{text:?}");
        }
    }

    #[test]
    fn a_file_with_a_mistake_is_refused_in_one_line() {
        for (text, complaint) in [
            ("nonMasqueradeCIDRs: [10.0.0.0]", "\"10.0.0.0\" is not a prefix"),
            ("nonMasqueradeCIDRs: [10.0.0.1/8]", "the prefix of that length is \"10.0.0.0/8\""),
            ("nonMasqueradeCIDRs: 10.0.0.0/8", "line 1"),
            ("masqLinkLocal: maybe", "line 1"),
            ("- 10.0.0.0/8", "line 1"),
            ("nonMasqueradeCIDRs: [10.0.0.0/8", "line 1"),
            ("masqLinkLocal: true\nmasqLinkLocal: false", "masqLinkLocal"),
        ] {
            let error = rules(text).expect_err(text);
            assert!(error.contains(complaint), "{text:?}: {error}");
            assert!(!error.contains('\n'), "{text:?}: {error}");
        }
    }

    #[test]
    fn prefixes_add_up_and_link_local_is_masqueraded_if_any_file_says_so() {
        assert_eq!(merged(&[]), None);
        assert_eq!(merged(&[""]).unwrap(), ["169.254.0.0/16", "fe80::/10"]);
        assert_eq!(
            merged(&["nonMasqueradeCIDRs: [10.0.0.0/8]", "nonMasqueradeCIDRs: [10.0.0.0/8, 172.16.0.0/12]"]).unwrap(),
            ["10.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "fe80::/10"]
        );
        assert_eq!(merged(&["masqLinkLocal: true", "masqLinkLocal: false"]).unwrap(), ["fe80::/10"]);
        assert_eq!(merged(&["masqLinkLocalIPv6: true", ""]).unwrap(), ["169.254.0.0/16"]);
    }

    #[test]
    fn an_error_names_the_file() {
        let error = snapshot(&["", "masqLinkLocal: 7"]).unmasqueraded().unwrap_err();
        assert!(matches!(&error, MasqError::Invalid { path, .. } if path == Path::new("/masq/1")), "{error}");
        let error = Snapshot::read(Path::new("/nowhere/masq")).unwrap_err().to_string();
        assert!(error.starts_with("/nowhere/masq: "), "{error}");
    }

    /// The kubelet's way to change all files at once (pkg/volume/util/atomic_writer.go).
    #[test]
    fn a_mounted_config_map_is_read_once_per_file() {
        let dir = tempfile::tempdir().unwrap();
        let generation = dir.path().join("..2026_01_01");
        std::fs::create_dir(&generation).unwrap();
        std::fs::write(generation.join("ip-masq-agent"), "nonMasqueradeCIDRs: [10.0.0.0/8]").unwrap();
        std::os::unix::fs::symlink("..2026_01_01", dir.path().join("..data")).unwrap();
        assert_eq!(Snapshot::read(dir.path()).unwrap().unmasqueraded(), Ok(None));
        std::os::unix::fs::symlink("..data/ip-masq-agent", dir.path().join("ip-masq-agent")).unwrap();
        let snapshot = Snapshot::read(dir.path()).unwrap();
        assert_eq!(snapshot.0.len(), 1);
        assert_eq!(snapshot.unmasqueraded().unwrap().unwrap().len(), 3);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "([-:\\[\\]{}&*!|>'\"%@,# \n]|nonMasqueradeCIDRs|masqLinkLocal|10\\.0\\.0\\.0/8|.){0,40}") {
            let _ = Rules::parse(&text);
        }
    }
}
