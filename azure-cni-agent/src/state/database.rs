//! The open database, and what redb's errors mean for us.
//!
//! After a failed read or write redb refuses all work until it is opened anew, as what it has in memory may not be what is
//! on the disk. So it is: at once, or if that fails too, before the next piece of work.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use redb::{Database, ReadTransaction, ReadableDatabase, WriteTransaction};

use super::error::StoreError;

/// A few hundred records of a few hundred bytes; redb would take up to 1 GiB.
const CACHE_BYTES: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct OpenDatabase {
    path: PathBuf,
    /// `None`: it could not be opened anew after a failure.
    database: RwLock<Option<Database>>,
}

impl OpenDatabase {
    /// Opens the file, making it if absent. Every page is checked before it is trusted.
    pub fn open(path: PathBuf) -> Result<Self, StoreError> {
        let database = open(&path)?;
        Ok(Self { path, database: RwLock::new(Some(database)) })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// One transaction, on disk when this returns (redb's default, `Durability::Immediate`).
    pub fn write<T>(&self, change: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        self.with(|database| {
            let transaction = database.begin_write()?;
            let value = change(&transaction)?;
            transaction.commit()?;
            Ok(value)
        })
    }

    pub fn read<T>(&self, look: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        self.with(|database| look(&database.begin_read()?))
    }

    fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        if self.database.read().unwrap_or_else(PoisonError::into_inner).is_none() {
            self.open_anew()?;
        }
        let attempt = match &*self.database.read().unwrap_or_else(PoisonError::into_inner) {
            Some(database) => work(database),
            // Another thread's work has failed in between.
            None => Err(redb::Error::PreviousIo),
        };
        if let Err(redb::Error::Io(_) | redb::Error::PreviousIo) = attempt
            && let Err(error) = self.open_anew()
        {
            tracing::error!(%error, "the store could not be opened anew after a failure");
        }
        attempt.map_err(|error| from_redb(&self.path, error))
    }

    fn open_anew(&self) -> Result<(), StoreError> {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        // Closed first: it has the file locked.
        drop(database.take());
        *database = Some(open(&self.path)?);
        Ok(())
    }
}

fn open(path: &Path) -> Result<Database, StoreError> {
    Database::builder()
        .set_cache_size(CACHE_BYTES)
        .set_check_integrity_on_open(true)
        .create(path)
        .map_err(|error| from_redb(path, error.into()))
}

/// The only place that knows what redb's errors mean for us.
fn from_redb(path: &Path, error: redb::Error) -> StoreError {
    use redb::Error;
    let path = path.to_owned();
    match error {
        Error::DatabaseAlreadyOpen | Error::LockProtocolMismatch => StoreError::InUse { path },
        // From `TableDoesNotExist` on: a sound database, but not one that an agent wrote.
        Error::Corrupted(_)
        | Error::UpgradeRequired(_)
        | Error::TableDoesNotExist(_)
        | Error::TableTypeMismatch { .. }
        | Error::TypeDefinitionChanged { .. }
        | Error::TableIsMultimap(_) => StoreError::Corrupt { path, problem: error.to_string() },
        // redb's words for a file that does not begin as its own do, and for one that is cut short.
        Error::Io(source) if matches!(source.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) => {
            StoreError::Corrupt { path, problem: source.to_string() }
        }
        Error::Io(source) => StoreError::Io { path, source },
        Error::PreviousIo => StoreError::Io { path, source: std::io::Error::other(error) },
        other => StoreError::Database { path, source: Box::new(other) },
    }
}
