//! The folder of requests: written by the plugin, emptied by the agent. Root only.
//!
//! A request that is there is whole and on the disk ([`durable`]).

#[cfg(test)]
mod tests;

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::request::SpooledRequest;
use crate::durable::{self, PRIVATE, PRIVATE_DIR};
use crate::socket::MAX_FRAME;

/// The most requests that wait. More are refused, so that a node without an agent does not fill its disk.
pub const MAX_REQUESTS: usize = 16_384;

/// A file that is not in its place after this long never will be: its writer was killed.
const UNFINISHED_AFTER: Duration = Duration::from_secs(600);

const SUFFIX: &str = ".json";

/// Why a request could not be written, or the folder not be read.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// A retry helps once the disk is writable, or has room.
    #[error("spool {}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    /// A retry does not help: others than root could put requests there.
    #[error("spool {} {problem}; make it a directory of root with mode 0700", path.display())]
    Unsafe { path: PathBuf, problem: &'static str },
    /// A retry helps once an agent has carried some out.
    #[error("spool {} holds {MAX_REQUESTS} requests already: start azure-cni-agent", path.display())]
    Full { path: PathBuf },
    /// A retry does not help.
    #[error("a request of {bytes} bytes is longer than {MAX_FRAME}")]
    TooLong { bytes: usize },
}

/// What a name in the folder leads to.
#[derive(Debug, PartialEq, Eq)]
pub enum SpoolEntry {
    Request(SpooledRequest),
    /// It is not a request and never will be; why.
    Malformed(String),
    /// It was executed and removed in the meantime.
    Gone,
}

#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Makes the folder if it is absent; refuses one that others can write to.
    pub fn open(path: &Path) -> Result<Self, SpoolError> {
        let failed = |source| SpoolError::Io { path: path.to_owned(), source };
        durable::create_dir(path, PRIVATE_DIR).map_err(failed)?;
        let found = path.symlink_metadata().map_err(failed)?;
        let refused = |problem| Err(SpoolError::Unsafe { path: path.to_owned(), problem });
        if !found.is_dir() {
            return refused("is not a directory");
        }
        if found.uid() != nix::unistd::geteuid().as_raw() {
            return refused("belongs to another user");
        }
        if found.mode() & 0o022 != 0 {
            return refused("can be written by others");
        }
        Ok(Self { path: path.to_owned() })
    }

    /// Writes a request down. It is on the disk when this returns.
    pub fn put(&self, request: &SpooledRequest) -> Result<(), SpoolError> {
        let bytes = serde_json::to_vec(request).map_err(|error| self.io("", error.into()))?;
        if bytes.len() > MAX_FRAME {
            return Err(SpoolError::TooLong { bytes: bytes.len() });
        }
        if self.names()?.len() >= MAX_REQUESTS {
            return Err(SpoolError::Full { path: self.path.clone() });
        }
        let name = request.file_name();
        durable::replace(&self.path.join(&name), &bytes, PRIVATE).map_err(|source| self.io(&name, source))
    }

    /// The names of the requests that wait, in order.
    pub fn names(&self) -> Result<Vec<String>, SpoolError> {
        let mut names: Vec<String> = self
            .entries()?
            .into_iter()
            .filter(|name| name.ends_with(SUFFIX) && !durable::is_unfinished(name))
            .collect();
        names.sort();
        Ok(names)
    }

    pub fn read(&self, name: &str) -> Result<SpoolEntry, SpoolError> {
        let read = || -> std::io::Result<Result<Vec<u8>, String>> {
            // Opens a FIFO without waiting for a writer, and no symbolic link.
            let file = OpenOptions::new()
                .read(true)
                .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
                .open(self.path.join(name))?;
            if !file.metadata()?.is_file() {
                return Ok(Err("it is not a file".to_owned()));
            }
            let mut bytes = Vec::new();
            file.take(MAX_FRAME as u64 + 1).read_to_end(&mut bytes)?;
            Ok(if bytes.len() > MAX_FRAME { Err(format!("it is longer than {MAX_FRAME} bytes")) } else { Ok(bytes) })
        };
        match read() {
            Ok(Ok(bytes)) => Ok(match serde_json::from_slice(&bytes) {
                Ok(request) => SpoolEntry::Request(request),
                Err(error) => SpoolEntry::Malformed(error.to_string()),
            }),
            Ok(Err(problem)) => Ok(SpoolEntry::Malformed(problem)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(SpoolEntry::Gone),
            Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
                Ok(SpoolEntry::Malformed("it is a symbolic link".to_owned()))
            }
            Err(error) => Err(self.io(name, error)),
        }
    }

    /// Removes a request that was executed. It is no error if the request is gone already.
    pub fn remove(&self, name: &str) -> Result<(), SpoolError> {
        durable::remove(&self.path.join(name)).map(drop).map_err(|source| self.io(name, source))
    }

    /// Renames a malformed request so that it is not read again; returns the new name.
    pub fn set_aside(&self, name: &str) -> Result<String, SpoolError> {
        let aside = format!("{name}.bad");
        durable::rename(&self.path.join(name), &self.path.join(&aside)).map_err(|source| self.io(name, source))?;
        Ok(aside)
    }

    /// Removes what killed plugins have left half-written.
    pub fn remove_unfinished(&self) -> Result<(), SpoolError> {
        let before = SystemTime::now() - UNFINISHED_AFTER;
        durable::remove_unfinished(&self.path, before).map_err(|source| self.io("", source))
    }

    /// Names that are not UTF-8 are not those of requests.
    fn entries(&self) -> Result<Vec<String>, SpoolError> {
        let list =
            || std::fs::read_dir(&self.path)?.map(|entry| Ok(entry?.file_name())).collect::<std::io::Result<Vec<_>>>();
        let entries = list().map_err(|source| self.io("", source))?;
        Ok(entries.into_iter().filter_map(|name| name.into_string().ok()).collect())
    }

    fn io(&self, name: &str, source: std::io::Error) -> SpoolError {
        SpoolError::Io { path: self.path.join(name), source }
    }
}
