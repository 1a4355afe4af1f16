//! The store itself: a redb file with one table of records and one for its schema.

#[cfg(test)]
mod tests;

use std::fs::{DirBuilder, File};
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use azure_cni_api::cni::AttachmentId;
use nix::errno::Errno;
use nix::sys::statvfs::{FsFlags, statvfs};
use redb::{ReadableTable, TableDefinition, TableError};

use super::database::OpenDatabase;
use super::error::StoreError;
use super::record::AttachmentRecord;

/// The database's name in the state directory.
pub const FILE_NAME: &str = "attachments.redb";

/// Raised with every change that an earlier agent would misread; adding an optional field is none.
const SCHEMA: u32 = 1;
const SCHEMA_KEY: &str = "schema";
/// There from the making of the store until what lives on the node is recorded in it.
const UNFINISHED_KEY: &str = "unfinished";
const META: TableDefinition<&str, u32> = TableDefinition::new("meta");
/// Key: the attachment's display form, which is unique, as no part of it can hold a slash. Value: JSON.
const ATTACHMENTS: TableDefinition<&str, &[u8]> = TableDefinition::new("attachments");

/// Key: an address. Value: the boot, and the milliseconds since it, at which the address was last released.
const RELEASED: TableDefinition<&str, (&str, u64)> = TableDefinition::new("released");

/// A point in time that a clock of the same boot can be compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootStamp {
    /// `/proc/sys/kernel/random/boot_id`
    pub boot_id: String,
    /// By `CLOCK_BOOTTIME`.
    pub since_boot: Duration,
}

#[derive(Debug)]
pub struct Store {
    database: OpenDatabase,
}

/// A store that could not be trusted, out of the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    pub moved_to: PathBuf,
    /// What was wrong with it.
    pub problem: String,
}

impl Store {
    /// Opens the store in this directory, making both if absent. Every page is checked before it is trusted.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        // Only the agent's own user may learn which pods run here.
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|source| io(dir, source))?;
        let store = Self { database: OpenDatabase::open(dir.join(FILE_NAME))? };
        store.check_schema()?;
        // A new file is safe only once the directory that names it is.
        sync(dir)?;
        Ok(store)
    }

    /// As [`Store::open`], with every record read once; a store that is damaged is renamed, and a new one takes its place.
    pub fn open_or_set_aside(dir: &Path) -> Result<(Self, Option<SetAside>), StoreError> {
        let opened = Self::open(dir).and_then(|store| store.all().map(|_| store));
        let problem = match opened {
            Ok(store) => return Ok((store, None)),
            Err(StoreError::Corrupt { problem, .. }) => problem,
            Err(other) => return Err(other),
        };
        let path = dir.join(FILE_NAME);
        let moved_to = dir.join(format!("{FILE_NAME}.damaged-{}", unix_ms()));
        std::fs::rename(&path, &moved_to).map_err(|source| io(&path, source))?;
        sync(dir)?;
        Ok((Self::open(dir)?, Some(SetAside { moved_to, problem })))
    }

    /// Whether it was made and not finished: it says nothing yet of what lives on the node.
    pub fn is_unfinished(&self) -> Result<bool, StoreError> {
        self.database.read(|transaction| Ok(transaction.open_table(META)?.get(UNFINISHED_KEY)?.is_some()))
    }

    /// Finishes a new store with what lives on the node: all of it, or the next start finds it unfinished again.
    pub fn finish(&self, records: &[AttachmentRecord]) -> Result<(), StoreError> {
        let entries = records.iter().map(encode).collect::<Result<Vec<_>, _>>()?;
        self.database.write(|transaction| {
            let mut attachments = transaction.open_table(ATTACHMENTS)?;
            for (key, value) in &entries {
                attachments.insert(key.as_str(), value.as_slice())?;
            }
            transaction.open_table(META)?.remove(UNFINISHED_KEY)?;
            Ok(())
        })
    }

    /// Writes the record, over the attachment's earlier one if there is one. Its addresses no longer cool down.
    pub fn put(&self, record: &AttachmentRecord) -> Result<(), StoreError> {
        let (key, value) = encode(record)?;
        self.database.write(|transaction| {
            transaction.open_table(ATTACHMENTS)?.insert(key.as_str(), value.as_slice())?;
            let mut released = transaction.open_table(RELEASED)?;
            for address in &record.addresses {
                released.remove(address.to_string().as_str())?;
            }
            Ok(())
        })
    }

    /// Removes the attachment's record; whether there was one. Its addresses have then been released at that moment.
    pub fn remove(&self, id: &AttachmentId, at: &BootStamp) -> Result<bool, StoreError> {
        let Some(record) = self.get(id)? else { return Ok(false) };
        let key = id.to_string();
        self.database.write(|transaction| {
            let was_there = transaction.open_table(ATTACHMENTS)?.remove(key.as_str())?.is_some();
            let mut released = transaction.open_table(RELEASED)?;
            for address in &record.addresses {
                released.insert(address.to_string().as_str(), (at.boot_id.as_str(), millis(at.since_boot)))?;
            }
            Ok(was_there)
        })
    }

    /// Addresses released in this boot at that moment or later, with when it was.
    pub fn released_since(&self, moment: &BootStamp) -> Result<Vec<(IpAddr, Duration)>, StoreError> {
        let is_later = |(boot_id, ms): (&str, u64)| boot_id == moment.boot_id && ms >= millis(moment.since_boot);
        self.database.read(|transaction| {
            let table = match transaction.open_table(RELEASED) {
                Ok(table) => table,
                // Nothing was, or by an agent that did not keep it.
                Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                Err(error) => return Err(error.into()),
            };
            let mut released = Vec::new();
            for entry in table.iter()? {
                let (address, at) = entry?;
                if let (true, Ok(address)) = (is_later(at.value()), address.value().parse()) {
                    released.push((address, Duration::from_millis(at.value().1)));
                }
            }
            Ok(released)
        })
    }

    pub fn get(&self, id: &AttachmentId) -> Result<Option<AttachmentRecord>, StoreError> {
        let key = id.to_string();
        let value = self.database.read(|transaction| {
            let value = transaction.open_table(ATTACHMENTS)?.get(key.as_str())?;
            Ok(value.map(|value| value.value().to_vec()))
        })?;
        value.map(|value| self.decode(&key, &value)).transpose()
    }

    /// Every record, in the order of their ids.
    pub fn all(&self) -> Result<Vec<AttachmentRecord>, StoreError> {
        let entries = self.database.read(|transaction| {
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
        self.database.read(|transaction| Ok(transaction.open_table(META)?.get(SCHEMA_KEY)?.map(drop)))?;
        let path = self.path();
        let state = statvfs(path).map_err(|errno| io(path, errno.into()))?;
        if state.flags().contains(FsFlags::ST_RDONLY) {
            return Err(io(path, Errno::EROFS.into()));
        }
        if state.blocks_free() == 0 {
            return Err(io(path, Errno::ENOSPC.into()));
        }
        Ok(())
    }

    /// A new store gets the schema of this version; an old one must have one that this version knows.
    fn check_schema(&self) -> Result<(), StoreError> {
        let (found, is_new) = self.database.read(|transaction| {
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
                Err(StoreError::NewerSchema { path: self.path().to_owned(), found, known: SCHEMA })
            }
            None if is_new => self.database.write(|transaction| {
                let mut meta = transaction.open_table(META)?;
                meta.insert(SCHEMA_KEY, SCHEMA)?;
                meta.insert(UNFINISHED_KEY, 1)?;
                transaction.open_table(ATTACHMENTS)?;
                Ok(())
            }),
            _ => Err(self.corrupt("it has no schema that an agent ever wrote")),
        }
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

    fn path(&self) -> &Path {
        self.database.path()
    }

    fn corrupt(&self, problem: &str) -> StoreError {
        StoreError::Corrupt { path: self.path().to_owned(), problem: problem.to_owned() }
    }
}

fn encode(record: &AttachmentRecord) -> Result<(String, Vec<u8>), StoreError> {
    let key = record.id.to_string();
    match serde_json::to_vec(record) {
        Ok(value) => Ok((key, value)),
        Err(source) => Err(StoreError::Unstorable { id: key, source }),
    }
}

fn io(path: &Path, source: std::io::Error) -> StoreError {
    StoreError::Io { path: path.to_owned(), source }
}

fn sync(dir: &Path) -> Result<(), StoreError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|source| io(dir, source))
}

/// For a name that no earlier one has.
fn unix_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}
