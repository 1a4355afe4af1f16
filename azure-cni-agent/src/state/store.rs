//! The store itself: a redb file with one table of records and one for its schema.

#[cfg(test)]
mod tests;

use std::fs::{DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::statvfs::{FsFlags, statvfs};
use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, TableError, WriteTransaction};

use super::error::StoreError;
use super::record::AttachmentRecord;
use crate::cni::AttachmentId;

/// The database's name in the state directory.
pub const FILE_NAME: &str = "attachments.redb";

/// Raised with every change that an earlier agent would misread; adding an optional field is none.
const SCHEMA: u32 = 1;
const SCHEMA_KEY: &str = "schema";
const META: TableDefinition<&str, u32> = TableDefinition::new("meta");
/// Key: the attachment's display form, which is unique, as no part of it can hold a slash. Value: JSON.
const ATTACHMENTS: TableDefinition<&str, &[u8]> = TableDefinition::new("attachments");
/// A few hundred records of a few hundred bytes; redb would take up to 1 GiB.
const CACHE_BYTES: usize = 1 << 20;

#[derive(Debug)]
pub struct Store {
    database: Database,
    path: PathBuf,
}

impl Store {
    /// Opens the store in this directory, making both if absent. Every page is checked before it is trusted.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(FILE_NAME);
        let failed = |error| from_redb(&path, error);
        // Only the agent's own user may learn which pods run here.
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|source| io(dir, source))?;
        let database = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .set_check_integrity_on_open(true)
            .create(&path)
            .map_err(|error| failed(error.into()))?;
        let store = Self { database, path };
        store.check_schema()?;
        // A new file is safe only once the directory that names it is.
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(|source| io(dir, source))?;
        Ok(store)
    }

    /// Writes the record, over the attachment's earlier one if there is one.
    pub fn put(&self, record: &AttachmentRecord) -> Result<(), StoreError> {
        let key = record.id.to_string();
        let value = serde_json::to_vec(record).map_err(|source| StoreError::Unstorable { id: key.clone(), source })?;
        self.write(|transaction| {
            transaction.open_table(ATTACHMENTS)?.insert(key.as_str(), value.as_slice())?;
            Ok(())
        })
    }

    /// Removes the attachment's record; whether there was one.
    pub fn remove(&self, id: &AttachmentId) -> Result<bool, StoreError> {
        let key = id.to_string();
        self.write(|transaction| Ok(transaction.open_table(ATTACHMENTS)?.remove(key.as_str())?.is_some()))
    }

    pub fn get(&self, id: &AttachmentId) -> Result<Option<AttachmentRecord>, StoreError> {
        let key = id.to_string();
        let value = self.read(|transaction| {
            let value = transaction.open_table(ATTACHMENTS)?.get(key.as_str())?;
            Ok(value.map(|value| value.value().to_vec()))
        })?;
        value.map(|value| self.decode(&key, &value)).transpose()
    }

    /// Every record, in the order of their ids.
    pub fn all(&self) -> Result<Vec<AttachmentRecord>, StoreError> {
        let entries = self.read(|transaction| {
            let table = transaction.open_table(ATTACHMENTS)?;
            let owned = table.iter()?.map(|entry| {
                let (key, value) = entry?;
                Ok((key.value().to_owned(), value.value().to_vec()))
            });
            owned.collect::<Result<Vec<_>, redb::Error>>()
        })?;
        entries.iter().map(|(key, value)| self.decode(key, value)).collect()
    }

    /// Whether a record could be read and written now, as far as can be told without writing.
    pub fn expect_usable(&self) -> Result<(), StoreError> {
        self.read(|transaction| Ok(transaction.open_table(META)?.get(SCHEMA_KEY)?.map(drop)))?;
        let state = statvfs(&self.path).map_err(|errno| io(&self.path, errno.into()))?;
        if state.flags().contains(FsFlags::ST_RDONLY) {
            return Err(io(&self.path, Errno::EROFS.into()));
        }
        if state.blocks_free() == 0 {
            return Err(io(&self.path, Errno::ENOSPC.into()));
        }
        Ok(())
    }

    /// A new store gets the schema of this version; an old one must have one that this version knows.
    fn check_schema(&self) -> Result<(), StoreError> {
        let (found, is_new) = self.read(|transaction| {
            let found = match transaction.open_table(META) {
                Ok(meta) => meta.get(SCHEMA_KEY)?.map(|schema| schema.value()),
                Err(TableError::TableDoesNotExist(_)) => None,
                Err(error) => return Err(error.into()),
            };
            Ok((found, transaction.list_tables()?.next().is_none()))
        })?;
        match found {
            Some(SCHEMA) => Ok(()),
            Some(found) if found > SCHEMA => {
                Err(StoreError::NewerSchema { path: self.path.clone(), found, known: SCHEMA })
            }
            None if is_new => self.write(|transaction| {
                transaction.open_table(META)?.insert(SCHEMA_KEY, SCHEMA)?;
                transaction.open_table(ATTACHMENTS)?;
                Ok(())
            }),
            _ => Err(self.corrupt("it has no schema that an agent ever wrote")),
        }
    }

    /// One transaction, on disk when this returns (redb's default, `Durability::Immediate`).
    fn write<T>(&self, change: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        let attempt = || {
            let transaction = self.database.begin_write()?;
            let value = change(&transaction)?;
            transaction.commit()?;
            Ok(value)
        };
        attempt().map_err(|error| from_redb(&self.path, error))
    }

    fn read<T>(&self, look: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        let attempt = || look(&self.database.begin_read()?);
        attempt().map_err(|error| from_redb(&self.path, error))
    }

    fn decode(&self, key: &str, value: &[u8]) -> Result<AttachmentRecord, StoreError> {
        let record: AttachmentRecord = serde_json::from_slice(value)
            .map_err(|error| self.corrupt(&format!("the record of {key} cannot be read: {error}")))?;
        if record.id.to_string() == key {
            Ok(record)
        } else {
            Err(self.corrupt(&format!("the record of {key} is that of {}", record.id)))
        }
    }

    fn corrupt(&self, problem: &str) -> StoreError {
        StoreError::Corrupt { path: self.path.clone(), problem: problem.to_owned() }
    }
}

fn io(path: &Path, source: std::io::Error) -> StoreError {
    StoreError::Io { path: path.to_owned(), source }
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
