//! Why the store could not be opened, read or written.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A retry helps once the other process has ended.
    #[error("{} is in use by another process: does another agent run with this state directory?", path.display())]
    InUse { path: PathBuf },
    /// The file is damaged. A retry does not help: the file has to be set aside and rebuilt from what is alive.
    #[error("{} is damaged: {problem}", path.display())]
    Corrupt { path: PathBuf, problem: String },
    /// Written by a later version of the agent. A retry does not help: run that version, or set the file aside.
    #[error("{} has schema {found}, and this version knows up to {known}", path.display())]
    NewerSchema { path: PathBuf, found: u32, known: u32 },
    /// The disk is full, read-only or failing. A retry helps once it is not; after a failed write only with the store
    /// opened anew.
    #[error("cannot read or write {}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    /// The database refused for a reason that neither a damaged file nor the disk explains. A retry does not help.
    #[error("{}: {source}", path.display())]
    Database { path: PathBuf, source: Box<redb::Error> },
    /// A record that has no form on disk, such as one with a path that is not UTF-8. A retry does not help.
    #[error("cannot store the record of {id}: {source}")]
    Unstorable { id: String, source: serde_json::Error },
}
