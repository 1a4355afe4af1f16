//! A call of the plugin as a runtime makes it: environment and standard input in, status and standard output out.
//!
//! A call is data that a test may bend (`without`, `with`, `stdin`) before the plugin sees it.

use std::{collections::BTreeMap, path::Path, process};

use serde::Deserialize;
use serde_json::Value;

use crate::{
    binaries,
    cni_error::CniError,
    error::{Error, Result},
};

/// One invocation of the plugin.
#[derive(Debug, Clone, Default)]
pub struct CniCall {
    environment: BTreeMap<String, String>,
    stdin: String,
}

impl CniCall {
    /// A call with `CNI_COMMAND` and `CNI_PATH` alone.
    pub fn new(command: &str) -> Result<Self> {
        let path = binaries::directory()?;
        Ok(Self::default().with("CNI_COMMAND", command).with("CNI_PATH", &path.to_string_lossy()))
    }

    /// Names the attachment that the call is about.
    pub fn attachment(self, container: &str, namespace: &Path, interface: &str) -> Self {
        self.with("CNI_CONTAINERID", container)
            .with("CNI_NETNS", &namespace.to_string_lossy())
            .with("CNI_IFNAME", interface)
    }

    /// Sets a variable of the environment.
    pub fn with(mut self, variable: &str, value: &str) -> Self {
        self.environment.insert(variable.into(), value.into());
        self
    }

    /// Removes a variable of the environment.
    pub fn without(mut self, variable: &str) -> Self {
        self.environment.remove(variable);
        self
    }

    /// Feeds a network configuration.
    pub fn netconf(self, netconf: &Value) -> Self {
        self.raw_stdin(&netconf.to_string())
    }

    /// Feeds any text.
    pub fn raw_stdin(mut self, text: &str) -> Self {
        self.stdin = text.into();
        self
    }

    pub(crate) fn environment(&self) -> &BTreeMap<String, String> {
        &self.environment
    }

    pub(crate) fn stdin(&self) -> &[u8] {
        self.stdin.as_bytes()
    }
}

/// What the plugin did.
#[derive(Debug, Clone)]
pub struct CniOutput {
    /// How it ended.
    pub status: process::ExitStatus,
    /// A result or an error object; nothing for CHECK and DEL that succeed.
    pub stdout: String,
    /// Logs.
    pub stderr: String,
}

impl From<process::Output> for CniOutput {
    fn from(output: process::Output) -> Self {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Self { status: output.status, stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }
}

impl CniOutput {
    /// The standard output as JSON.
    pub fn json(&self) -> Result<Value> {
        self.parse()
    }

    /// The error object that a failed call must print.
    pub fn error(&self) -> Result<CniError> {
        if self.status.success() {
            let problem = "the call succeeded, so there is no error object".into();
            return Err(Error::Answer { command: "azure-cni".into(), answer: self.stdout.clone(), problem });
        }
        self.parse()
    }

    fn parse<'output, T: Deserialize<'output>>(&'output self) -> Result<T> {
        serde_json::from_str(&self.stdout).map_err(|error| Error::Answer {
            command: "azure-cni".into(),
            answer: self.stdout.clone(),
            problem: format!("{error}; it ended with {}\n--- stderr ---\n{}", self.status, self.stderr),
        })
    }

    /// The output of a call that must succeed; else its error object, naming command and attachment.
    pub fn succeeded(self, call: &CniCall) -> Result<Self> {
        if self.status.success() {
            return Ok(self);
        }
        let variable = |name: &str| call.environment.get(name).cloned().unwrap_or_default();
        let attachment = variable("CNI_CONTAINERID");
        Err(Error::Cni {
            command: variable("CNI_COMMAND"),
            attachment,
            error: Box::new(self.error()?),
            stderr: self.stderr,
        })
    }
}
