//! One run of the plugin: a clean environment, a configuration on standard input, and the result.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};

use azure_cni_api::cni::CniVersion;
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::agent::Agent;

/// A configuration that every command accepts.
pub(crate) fn config(version: CniVersion) -> String {
    let previous = json!({"cniVersion": version, "interfaces": [], "ips": []});
    json!({
        "cniVersion": version, "name": "azure", "type": "azure-cni", "prevResult": previous,
        "cni.dev/valid-attachments": [],
    })
    .to_string()
}

/// A network namespace that lives as long as a thread of ours; making it needs root, and the test fails without.
pub(crate) struct PodNamespace {
    path: String,
    thread: Option<(Sender<()>, JoinHandle<()>)>,
}

impl PodNamespace {
    pub(crate) fn new() -> Self {
        let (made, is_made) = mpsc::channel();
        let (end, is_ended) = mpsc::channel::<()>();
        let thread = thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("root may make a network namespace");
            made.send(format!("/proc/{}/task/{}/ns/net", nix::unistd::getpid(), nix::unistd::gettid())).unwrap();
            // Ends with an error, when the sender is dropped.
            let _ = is_ended.recv();
        });
        Self { path: is_made.recv().unwrap(), thread: Some((end, thread)) }
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }
}

impl Drop for PodNamespace {
    fn drop(&mut self) {
        let (end, thread) = self.thread.take().unwrap();
        drop(end);
        thread.join().unwrap();
    }
}

pub(crate) struct Call {
    vars: Vec<(String, String)>,
    stdin: String,
    /// The spool for requests that found no agent.
    spool: TempDir,
}

impl Call {
    /// A call without CNI variables.
    pub(crate) fn bare() -> Self {
        let spool = TempDir::new().unwrap();
        let vars = vec![("AZURE_CNI_SPOOL".to_owned(), spool.path().to_str().unwrap().to_owned())];
        Self { vars, stdin: config(CniVersion::NEWEST), spool }
    }

    /// A complete call, to an agent that does not run.
    pub(crate) fn without_agent(command: &str, pod: &PodNamespace) -> Self {
        Self::bare()
            .var("CNI_COMMAND", command)
            .var("CNI_CONTAINERID", "c1")
            .var("CNI_NETNS", pod.path())
            .var("CNI_IFNAME", "eth0")
            .var("CNI_PATH", "/opt/cni/bin")
            .var("AZURE_CNI_SOCKET", "/nonexistent/agent.sock")
    }

    pub(crate) fn new(command: &str, agent: &Agent, pod: &PodNamespace) -> Self {
        Self::without_agent(command, pod).var("AZURE_CNI_SOCKET", agent.socket())
    }

    /// Sets a variable. The last value wins.
    pub(crate) fn var(mut self, name: &str, value: &str) -> Self {
        self.vars.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn stdin(mut self, text: impl AsRef<str>) -> Self {
        self.stdin = text.as_ref().to_owned();
        self
    }

    /// The number of requests that the plugin has spooled.
    pub(crate) fn spooled(&self) -> usize {
        self.spool.path().read_dir().unwrap().count()
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_azure-cni"));
        command.env_clear().envs(self.vars.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self) -> Run {
        let mut child = self.command().spawn().unwrap();
        // The plugin may close its end early.
        let _ = child.stdin.take().unwrap().write_all(self.stdin.as_bytes());
        let output = child.wait_with_output().unwrap();
        Run {
            code: output.status.code().expect("the plugin ends by itself"),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {:?}", self.stdout))
    }

    /// The code of the error on standard output, which must have exactly the four keys.
    pub(crate) fn error(&self) -> u64 {
        let error = self.json();
        let mut keys: Vec<&str> = error.as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(keys, ["cniVersion", "code", "details", "msg"], "{error}");
        error["code"].as_u64().unwrap()
    }
}
