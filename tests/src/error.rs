//! What can go wrong while a network is built or probed.
//!
//! A failed test shows nothing but this message, so it says what was tried, from where and to where. No error deserves a
//! retry here: a test that knows why a probe may fail repeats it.

use std::{fmt, io, path::PathBuf, process::ExitStatus, time::Duration};

use aya::maps::MapError;

use crate::{cni_error::CniError, leftovers::Leftovers};

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a network could not be built, or what did not come back.
#[derive(thiserror::Error)]
pub enum Error {
    /// The machine lacks something that every test needs; tests fail then, they are never skipped.
    #[error("this machine cannot run the system tests: {missing}\n  {remedy}")]
    Incapable { missing: String, remedy: String },

    /// A second network on a thread that has one already, or a call from a thread that has none.
    #[error("{0}")]
    Sandbox(&'static str),

    /// A binary of this workspace has not been built.
    #[error("`{name}` is not in {}: build it with `cargo xtask build`, or say where it is in AZURE_CNI_BIN_DIR", searched.display())]
    MissingBinary { name: String, searched: PathBuf },

    /// The kernel refused something while the network was built.
    #[error("{what}: {source}")]
    Os { what: String, source: io::Error },

    /// A command ran and failed.
    #[error("`{command}` ended with {status}\n{stderr}")]
    Command { command: String, status: ExitStatus, stderr: String },

    /// A command was still running when its time was up, and was killed.
    #[error("`{command}` was still running after {limit:?}\n{stderr}")]
    Overdue { command: String, limit: Duration, stderr: String },

    /// A command answered with something that it should not have.
    #[error("`{command}` answered {answer:?}: {problem}")]
    Answer { command: String, answer: String, problem: String },

    /// The agent of a VM did not start, or did not stop, as it promises; with what it logged.
    #[error("the agent of {vm} {problem}\n--- its log ---\n{log}")]
    Agent { vm: String, problem: String, log: String },

    /// The plugin refused a call; with its error object.
    #[error("{command} of {attachment} failed: {error}\n--- stderr ---\n{stderr}")]
    Cni { command: String, attachment: String, error: Box<CniError>, stderr: String },

    /// Pods have left traces on a VM.
    #[error("{vm} is not as it was before its first pod:\n{found}")]
    Leftovers { vm: String, found: Box<Leftovers> },

    /// A map of the data path could not be opened, read or changed.
    #[error("map {map} of {vm}: {source}")]
    Map { vm: String, map: &'static str, source: Box<MapError> },

    /// A probe got no answer or the wrong one.
    #[error("{from} -> {to} {what}: {source}")]
    Probe { from: String, to: String, what: &'static str, source: io::Error },
}

impl Error {
    /// True for a probe that got no answer at all, not even a refusal.
    pub fn is_silence(&self) -> bool {
        matches!(self, Self::Probe { source, .. } if source.kind() == io::ErrorKind::TimedOut)
    }

    /// The error object of a call that the plugin refused.
    pub fn refusal(&self) -> Option<&CniError> {
        match self {
            Self::Cni { error, .. } => Some(error),
            _ => None,
        }
    }
}

/// The test harness shows an error by `Debug`: it is to be read, so it is the message.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Names the attempt that an operating system error belongs to.
pub(crate) trait Attempt<T> {
    /// Wraps the error with `what` was tried.
    fn attempt(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> Attempt<T> for std::result::Result<T, E> {
    fn attempt(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Os { what: what(), source: source.into() })
    }
}
