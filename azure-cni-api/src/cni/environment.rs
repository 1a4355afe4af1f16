//! The environment of a call: which command, and which variables it needs.
//!
//! The rule: each command's accessor returns only checked values, and an error names all missing variables at once.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::attachment::{ContainerId, InterfaceName};
use super::error::{CniError, excerpt};

/// `CNI_COMMAND`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Command {
    Add,
    Del,
    Check,
    Gc,
    Status,
    Version,
}

impl Command {
    pub const ALL: [Self; 6] = [Self::Add, Self::Del, Self::Check, Self::Gc, Self::Status, Self::Version];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Gc => "GC",
            Self::Status => "STATUS",
            Self::Version => "VERSION",
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Command {
    type Err = CniError;

    fn from_str(text: &str) -> Result<Self, CniError> {
        Self::ALL.into_iter().find(|command| command.as_str() == text).ok_or_else(|| {
            let known = Self::ALL.map(Self::as_str).join(", ");
            CniError::environment(format!("CNI_COMMAND {} is unknown", excerpt(&text.into())))
                .with_details(format!("known are {known}"))
        })
    }
}

/// The variables of a call as they were given. The agent receives them in this form and checks them again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Environment {
    pub command: Command,
    #[serde(default)]
    pub container_id: Option<String>,
    #[serde(default)]
    pub netns: Option<String>,
    #[serde(default)]
    pub ifname: Option<String>,
    #[serde(default)]
    pub args: Option<String>,
    #[serde(default)]
    pub path: Option<String>,
    #[serde(default)]
    pub traceparent: Option<String>,
}

/// The variables of ADD and CHECK.
pub(super) struct AttachVariables {
    pub(super) container_id: ContainerId,
    pub(super) ifname: InterfaceName,
    pub(super) netns: PathBuf,
}

/// The variables of DEL. The namespace may be gone.
pub(super) struct DetachVariables {
    pub(super) container_id: ContainerId,
    pub(super) ifname: InterfaceName,
    pub(super) netns: Option<PathBuf>,
}

impl Environment {
    /// Reads the variables through `lookup`. `None`: this is not a CNI call; the program was started by hand.
    pub fn from_vars(lookup: impl Fn(&str) -> Option<OsString>) -> Result<Option<Self>, CniError> {
        let text = |name: &str| match lookup(name).map(OsString::into_string) {
            None => Ok(None),
            Some(Ok(value)) => Ok(Some(value).filter(|value| !value.is_empty())),
            Some(Err(_)) => Err(CniError::environment(format!("{name} is not UTF-8"))),
        };
        let Some(command) = text("CNI_COMMAND")? else { return Ok(None) };
        Ok(Some(Self {
            command: command.parse()?,
            container_id: text("CNI_CONTAINERID")?,
            netns: text("CNI_NETNS")?,
            ifname: text("CNI_IFNAME")?,
            args: text("CNI_ARGS")?,
            path: text("CNI_PATH")?,
            // A bad trace context never fails a call.
            traceparent: text("TRACEPARENT").unwrap_or(None),
        }))
    }

    /// Checks that the command has its variables, before the configuration is read.
    pub fn check(&self) -> Result<(), CniError> {
        match self.command {
            Command::Add | Command::Check => self.attach_variables().map(drop),
            Command::Del => self.detach_variables().map(drop),
            Command::Gc | Command::Status => self.check_network_wide(),
            Command::Version => Ok(()),
        }
    }

    pub(super) fn attach_variables(&self) -> Result<AttachVariables, CniError> {
        let mut missing = Missing::default();
        let id = missing.require("CNI_CONTAINERID", &self.container_id);
        let netns = missing.require("CNI_NETNS", &self.netns);
        let ifname = missing.require("CNI_IFNAME", &self.ifname);
        let path = missing.require("CNI_PATH", &self.path);
        let (Some(id), Some(netns), Some(ifname), Some(_)) = (id, netns, ifname, path) else {
            return Err(missing.into_error(self.command));
        };
        if !netns.starts_with('/') {
            // The agent's working directory is not the plugin's.
            let msg = format!("CNI_NETNS {} is not an absolute path", excerpt(&netns.into()));
            return Err(CniError::invalid_netns(msg));
        }
        let (container_id, ifname) = names(id, ifname)?;
        Ok(AttachVariables { container_id, ifname, netns: netns.into() })
    }

    pub(super) fn detach_variables(&self) -> Result<DetachVariables, CniError> {
        let mut missing = Missing::default();
        let id = missing.require("CNI_CONTAINERID", &self.container_id);
        let ifname = missing.require("CNI_IFNAME", &self.ifname);
        let path = missing.require("CNI_PATH", &self.path);
        let (Some(id), Some(ifname), Some(_)) = (id, ifname, path) else {
            return Err(missing.into_error(self.command));
        };
        let (container_id, ifname) = names(id, ifname)?;
        // DEL works without the namespace, so a path that cannot be the pod's is ignored.
        let netns = self.netns.as_deref().filter(|path| path.starts_with('/')).map(PathBuf::from);
        Ok(DetachVariables { container_id, ifname, netns })
    }

    /// GC and STATUS need no variable of a pod.
    pub(super) fn check_network_wide(&self) -> Result<(), CniError> {
        let mut missing = Missing::default();
        match missing.require("CNI_PATH", &self.path) {
            Some(_) => Ok(()),
            None => Err(missing.into_error(self.command)),
        }
    }

    /// The trace id of the call: the second field of the trace context.
    pub fn trace_id(&self) -> Option<String> {
        self.trace_context()?.split('-').nth(1).map(str::to_owned)
    }

    /// The trace context, if it has the form of W3C Trace Context (section 3.2). It is written to the log.
    pub(super) fn trace_context(&self) -> Option<String> {
        const FIELDS: [usize; 4] = [2, 32, 16, 2];
        let hex = |part: &str| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let fits = |text: &&String| {
            let parts: Vec<&str> = text.split('-').collect();
            parts.iter().map(|part| part.len()).eq(FIELDS) && parts.iter().all(|part| hex(part))
        };
        self.traceparent.as_ref().filter(fits).cloned()
    }
}

fn names(id: &str, ifname: &str) -> Result<(ContainerId, InterfaceName), CniError> {
    match (id.parse::<ContainerId>(), ifname.parse::<InterfaceName>()) {
        (Ok(id), Ok(ifname)) => Ok((id, ifname)),
        (Err(error), Ok(_)) | (Ok(_), Err(error)) => Err(CniError::environment(error.to_string())),
        (Err(first), Err(second)) => Err(CniError::environment(format!("{first}; {second}"))),
    }
}

/// Collects the names of missing variables, so that one error lists all of them.
#[derive(Default)]
struct Missing(Vec<&'static str>);

impl Missing {
    fn require<'a>(&mut self, name: &'static str, value: &'a Option<String>) -> Option<&'a str> {
        let given = value.as_deref().filter(|value| !value.is_empty());
        if given.is_none() {
            self.0.push(name);
        }
        given
    }

    fn into_error(self, command: Command) -> CniError {
        CniError::environment(format!("{command} needs {}", self.0.join(", ")))
            .with_details("variables of the environment are missing or empty")
    }
}
