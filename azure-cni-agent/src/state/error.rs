//! Why the store could not be opened or written.

use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A retry helps once the other process has ended.
    #[error("{} is in use by another process: does another agent run with this state directory?", path.display())]
    InUse { path: PathBuf },
    /// Written by a later version of the agent. A retry does not help: run that version, or move the directory away.
    #[error("{} has schema {found}, and this version knows up to {known}", path.display())]
    NewerSchema { path: PathBuf, found: u32, known: u32 },
    /// The disk is full, read-only or failing. A retry helps once it is not.
    #[error("cannot read or write {}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    /// A record that has no form on disk, such as one with a path that is not UTF-8. A retry does not help.
    #[error("cannot store the record of {id}: {source}")]
    Unstorable { id: String, source: serde_json::Error },
}

impl StoreError {
    /// For `map_err`.
    pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        |source| Self::Io { path: path.to_owned(), source }
    }
}
