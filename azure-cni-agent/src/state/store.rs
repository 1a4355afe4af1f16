//! The store itself: what its files say is also held in memory, so only changes wait for the disk.

#[cfg(test)]
mod tests;

use std::fs::File;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use azure_cni_api::cni::AttachmentId;
use azure_cni_api::durable::{self, PRIVATE, PRIVATE_DIR};
use nix::errno::Errno;
use nix::fcntl::Flock;
use nix::sys::statvfs::{FsFlags, Statvfs, statvfs};

use super::error::StoreError;
use super::file;
use super::open::{self, Content, SetAside};
use super::record::AttachmentRecord;

/// The store's directory in the state directory.
pub const DIR_NAME: &str = "attachments";

/// Changes of different attachments do not wait for each other. Those of one come one after the other: the caller holds the
/// attachment's lock.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    boot_id: String,
    set_aside: Vec<SetAside>,
    /// Changed once the disk has the change. After a change that failed the disk has either, and the next change is for both.
    content: Mutex<Content>,
    _lock: Flock<File>,
}

impl Store {
    /// Opens the store in this state directory, making both if absent. Every file is checked before it is trusted: one that
    /// is damaged is set aside, and concerns no other attachment. `boot_id` is that of this run of the kernel.
    pub fn open(state_dir: &Path, boot_id: &str) -> Result<Self, StoreError> {
        let dir = state_dir.join(DIR_NAME);
        // Only the agent's own user may learn which pods run here.
        durable::create_dir(&dir, PRIVATE_DIR).map_err(StoreError::io(&dir))?;
        let lock = open::lock(&dir)?;
        expect_writable(&dir)?;
        let (content, set_aside) = open::read(&dir, boot_id)?;
        Ok(Self { dir, boot_id: boot_id.to_owned(), set_aside, content: Mutex::new(content), _lock: lock })
    }

    /// What was damaged when the store was opened.
    pub fn set_aside(&self) -> &[SetAside] {
        &self.set_aside
    }

    /// Whether it lacks records of what lives on the node: all of them if it is new, or those that were damaged.
    pub fn is_unfinished(&self) -> bool {
        let content = self.content();
        content.is_new || !content.lost.is_empty()
    }

    /// Whether it lacks the record of this attachment, which lives on the node.
    pub fn lacks(&self, found: &AttachmentRecord) -> bool {
        let content = self.content();
        // A record that was made for a veth without a name is in a file of another.
        let names = [file::interface_name(&found.host_interface), file::record_name(&found.id)];
        let is_lost = || names.iter().any(|name| content.lost.contains(name));
        !content.records.contains_key(&found.id) && (content.is_new || is_lost())
    }

    /// Finishes the store with the records that it lacks: all of them, or the next start finds it unfinished again.
    pub fn finish(&self, records: &[AttachmentRecord]) -> Result<(), StoreError> {
        records.iter().try_for_each(|record| encode(record).map(drop))?;
        records.iter().try_for_each(|record| self.put(record))?;
        let (is_new, lost) = {
            let content = self.content();
            let recorded = |name: &String| content.records.keys().any(|id| file::record_name(id) == *name);
            (content.is_new, content.lost.iter().filter(|name| !recorded(name)).cloned().collect::<Vec<_>>())
        };
        for name in lost {
            let path = self.dir.join(name);
            durable::remove(&path).map_err(StoreError::io(&path))?;
        }
        if is_new {
            open::write_schema(&self.dir, true)?;
        }
        let mut content = self.content();
        content.is_new = false;
        content.lost.clear();
        Ok(())
    }

    /// Writes the record, over the attachment's earlier one if there is one. Its addresses no longer cool down.
    pub fn put(&self, record: &AttachmentRecord) -> Result<(), StoreError> {
        let text = encode(record)?;
        let name = file::record_name(&record.id);
        let path = self.dir.join(&name);
        let replaces = {
            let content = self.content();
            content.records.contains_key(&record.id) || content.lost.contains(&name)
        };
        let write = if replaces { durable::replace } else { durable::create_checksummed };
        write(&path, &text, PRIVATE).map_err(StoreError::io(&path))?;
        let unused = {
            let mut content = self.content();
            content.records.insert(record.id.clone(), record.clone());
            content.released.take(&record.addresses)
        };
        open::remove_unused(&self.dir, unused);
        Ok(())
    }

    /// Removes the attachment's record; whether there was one. Its addresses have then been released, at this time since
    /// boot: the record stays under a name that says so, which is one change on the disk.
    pub fn remove(&self, id: &AttachmentId, at: Duration) -> Result<bool, StoreError> {
        let path = self.dir.join(file::record_name(id));
        let Some(record) = self.get(id) else {
            // A write that failed may have left one. Nothing is written if not: the disk may be read-only.
            if path.symlink_metadata().is_ok() {
                durable::remove(&path).map_err(StoreError::io(&path))?;
            }
            return Ok(false);
        };
        let released = file::released_name(id, &self.boot_id, at);
        let place = self.dir.join(&released);
        match durable::rename(&path, &place) {
            // Renamed by an earlier call that failed after it, or removed by another hand: the cool-down begins now.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                durable::replace(&place, &encode(&record)?, PRIVATE).map_err(StoreError::io(&place))?;
            }
            renamed => renamed.map_err(StoreError::io(&path))?,
        }
        let unused = {
            let mut content = self.content();
            content.records.remove(id);
            content.released.insert(&record.addresses, at, &released)
        };
        open::remove_unused(&self.dir, unused);
        Ok(true)
    }

    /// Addresses released in this boot at that time since it or later, with when it was.
    pub fn released_since(&self, time: Duration) -> Vec<(IpAddr, Duration)> {
        self.content().released.since(time)
    }

    pub fn get(&self, id: &AttachmentId) -> Option<AttachmentRecord> {
        self.content().records.get(id).cloned()
    }

    /// Every record, in the order of their ids.
    pub fn all(&self) -> Vec<AttachmentRecord> {
        self.content().records.values().cloned().collect()
    }

    /// Whether a record could be written now, as far as can be told without writing.
    pub fn expect_usable(&self) -> Result<(), StoreError> {
        let state = expect_writable(&self.dir)?;
        // A file system that does not count its files has none free of none.
        let no_files_left = state.files() > 0 && state.files_available() == 0;
        if state.blocks_free() == 0 || no_files_left {
            return Err(StoreError::io(&self.dir)(Errno::ENOSPC.into()));
        }
        Ok(())
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn expect_writable(dir: &Path) -> Result<Statvfs, StoreError> {
    let state = statvfs(dir).map_err(|errno| StoreError::io(dir)(errno.into()))?;
    if state.flags().contains(FsFlags::ST_RDONLY) {
        return Err(StoreError::io(dir)(Errno::EROFS.into()));
    }
    Ok(state)
}

fn encode(record: &AttachmentRecord) -> Result<Vec<u8>, StoreError> {
    file::encode(record).map_err(|source| StoreError::Unstorable { id: record.id.to_string(), source })
}
