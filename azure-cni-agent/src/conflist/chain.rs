//! Asks the plugins of a chain which versions of CNI they speak, as the protocol has a runtime ask: by executing them.
//!
//! The rule: this is the one place where the product executes a program (docs/adr/0014): a CNI plugin, with the command VERSION. No
//! shell, no environment but CNI's, a time limit, and no more output than an answer has.
#![expect(clippy::disallowed_types, reason = "CNI's VERSION is asked by executing the plugin: docs/adr/0014")]

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use azure_cni_api::cni::CniVersion;
use azure_cni_api::excerpt::excerpt;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

/// A plugin answers in milliseconds.
const LIMIT: Duration = Duration::from_secs(5);
const MAX_ANSWER: u64 = 1 << 16;

/// What every plugin speaks that a distribution ships, for one that does not answer.
const NEWEST_COMMON: CniVersion = CniVersion::V1_0_0;

/// The versions that all plugins of a chain speak, and what is wrong with those that do not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    pub versions: BTreeSet<CniVersion>,
    pub problems: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    supported_versions: Vec<String>,
}

/// Asks each plugin, of each directory that has it: the runtime's search path may begin with any of them.
pub async fn ask_chain(plugins: &[String], dirs: &[PathBuf]) -> Chain {
    let mut chain = Chain { versions: CniVersion::SUPPORTED.into(), problems: Vec::new() };
    for plugin in plugins {
        let copies: Vec<PathBuf> = dirs.iter().map(|dir| dir.join(plugin)).filter(|path| is_executable(path)).collect();
        if copies.is_empty() {
            let dirs: Vec<_> = dirs.iter().map(|dir| dir.display().to_string()).collect();
            chain.fail(format!(
                "plugin {plugin} is in none of {} (cni_bin_dirs), and the conflist names it",
                dirs.join(", ")
            ));
        }
        for copy in copies {
            match ask(&copy).await {
                Ok(versions) => chain.versions.retain(|version| versions.contains(version)),
                Err(problem) => {
                    chain.fail(format!("plugin {} does not say which versions it speaks: {problem}", copy.display()))
                }
            }
        }
    }
    if chain.versions.is_empty() {
        chain.fail("the plugins of the conflist have no version of CNI in common".to_owned());
    }
    chain
}

impl Chain {
    fn fail(&mut self, problem: String) {
        self.versions.retain(|version| *version <= NEWEST_COMMON);
        self.problems.push(problem);
    }
}

fn is_executable(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

async fn ask(plugin: &Path) -> Result<BTreeSet<CniVersion>, String> {
    let mut child = Command::new(plugin)
        .env_clear()
        // Plugins of an older library ask for all of them (libcni, pkg/invoke/exec.go, GetVersionInfo).
        .envs([("CNI_COMMAND", "VERSION"), ("CNI_NETNS", "unused"), ("CNI_IFNAME", "unused"), ("CNI_PATH", "unused")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| error.to_string())?;
    // With the child it is killed.
    let answer = tokio::time::timeout(LIMIT, answer(&mut child)).await;
    let answer =
        answer.map_err(|_| format!("no answer within {} s", LIMIT.as_secs()))?.map_err(|error| error.to_string())?;
    let answer: Answer = serde_json::from_slice(&answer)
        .map_err(|_| format!("it says \"{}\"", excerpt(&String::from_utf8_lossy(&answer))))?;
    Ok(answer.supported_versions.iter().filter_map(|version| version.parse().ok()).collect())
}

async fn answer(child: &mut Child) -> std::io::Result<Vec<u8>> {
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read it answers all the same.
        let _ = stdin.write_all(format!("{{\"cniVersion\":\"{NEWEST_COMMON}\"}}").as_bytes()).await;
    }
    let mut answer = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(MAX_ANSWER).read_to_end(&mut answer).await?;
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plugin(dir: &Path, name: &str, script: &str) {
        std::fs::create_dir_all(dir).unwrap();
        let path = dir.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn speaks(versions: &str) -> String {
        format!("read input\necho '{{\"cniVersion\":\"1.0.0\",\"supportedVersions\":[{versions}]}}'")
    }

    async fn chain(plugins: &[&str], dirs: &[&Path]) -> (String, Vec<String>) {
        let plugins: Vec<String> = plugins.iter().map(|name| (*name).to_owned()).collect();
        let dirs: Vec<PathBuf> = dirs.iter().map(|dir| dir.to_path_buf()).collect();
        let Chain { versions, problems } = ask_chain(&plugins, &dirs).await;
        (versions.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "), problems)
    }

    #[tokio::test]
    async fn a_chain_speaks_what_all_of_its_plugins_speak() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (dir.path().join("one"), dir.path().join("other"));
        plugin(&one, "old", &speaks(r#""0.1.0","0.2.0","0.3.0","0.3.1","0.4.0","1.0.0""#));
        plugin(&one, "new", &speaks(r#""0.3.1","0.4.0","1.0.0","1.1.0","9.9.9""#));
        plugin(&other, "new", &speaks(r#""0.3.1","0.4.0""#));
        plugin(&other, "other", &speaks(r#""0.3.0""#));
        let all = "0.3.0 0.3.1 0.4.0 1.0.0 1.1.0";
        assert_eq!(chain(&[], &[&one]).await, (all.to_owned(), vec![]));
        assert_eq!(chain(&["old"], &[&one]).await.0, "0.3.0 0.3.1 0.4.0 1.0.0");
        assert_eq!(chain(&["new"], &[&one]).await.0, "0.3.1 0.4.0 1.0.0 1.1.0");
        assert_eq!(chain(&["old", "new"], &[&one]).await, ("0.3.1 0.4.0 1.0.0".to_owned(), vec![]));
        // The runtime may find either copy.
        assert_eq!(chain(&["new"], &[&one, &other]).await.0, "0.3.1 0.4.0");
        let (none, problems) = chain(&["other", "new"], &[&other]).await;
        assert!(none.is_empty() && problems[0].contains("no version of CNI in common"), "{problems:?}");
    }

    #[tokio::test]
    async fn a_plugin_that_does_not_answer_limits_to_what_all_speak_and_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        for (name, script) in [
            ("silent", "exit 0"),
            ("failing", "exit 7"),
            ("other", "echo '{}'"),
            ("long", "head -c 100000000 /dev/zero"),
            ("lasting", "exec sleep 600"),
        ] {
            plugin(path, name, script);
        }
        std::fs::write(path.join("no-program"), "").unwrap();
        let known = "0.3.0 0.3.1 0.4.0 1.0.0";
        for name in ["silent", "failing", "other", "long", "lasting", "no-program", "missing"] {
            let (versions, problems) = chain(&[name], &[path]).await;
            assert_eq!(versions, known, "{name}");
            assert!(problems.len() == 1 && problems[0].contains(name) && problems[0].len() < 500, "{problems:?}");
        }
    }

    #[tokio::test]
    async fn a_plugin_gets_no_environment_but_cnis() {
        let dir = tempfile::tempdir().unwrap();
        plugin(
            dir.path(),
            "nosy",
            "env=$(/usr/bin/env | /usr/bin/cut -d= -f1 | /usr/bin/sort | /usr/bin/tr '\\n' ' ')\necho \"$env\"",
        );
        let (_, problems) = chain(&["nosy"], &[dir.path()]).await;
        let (_, said) = problems[0].split_once("it says \"").unwrap();
        let names: Vec<_> = said.split([' ', '"']).filter(|name| !name.is_empty()).collect();
        assert_eq!(names[..4], ["CNI_COMMAND", "CNI_IFNAME", "CNI_NETNS", "CNI_PATH"]);
        // And the end of the line.
        let of_shells = ["PWD", "OLDPWD", "SHLVL", "_", "\\n"];
        assert!(names[4..].iter().all(|name| of_shells.contains(name)), "{problems:?}");
    }
}
