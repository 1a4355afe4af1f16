//! From a directory to an open store: every file is read once, and what is damaged is set aside.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use azure_cni_api::cni::AttachmentId;
use azure_cni_api::durable::{self, PRIVATE};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::file::{self, Kind};
use super::record::AttachmentRecord;
use super::released::Released;

/// Raised with every change that an earlier agent would misread; adding an optional field is none.
pub(super) const SCHEMA: u32 = 1;

/// The file that says what the directory is. It is written first, and once more when the store is finished.
pub(super) const SCHEMA_FILE: &str = "schema";

#[derive(Debug, Serialize, Deserialize)]
struct Schema {
    schema: u32,
    /// All that lived on the node when the store was made is recorded in it.
    finished: bool,
}

/// A file that could not be trusted, kept under another name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    pub kept_as: PathBuf,
    /// What was wrong with it.
    pub problem: String,
}

/// What the files say.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub records: BTreeMap<AttachmentId, AttachmentRecord>,
    pub released: Released,
    /// The store does not say yet what lives on the node.
    pub is_new: bool,
    /// Names of records that are damaged. Each stays in its place until what it said is recorded again.
    pub lost: BTreeSet<String>,
}

/// One process at a time, as long as this value lives.
pub(super) fn lock(dir: &Path) -> Result<Flock<File>, StoreError> {
    let file = File::open(dir).map_err(StoreError::io(dir))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => StoreError::InUse { path: dir.to_owned() },
        errno => StoreError::io(dir)(errno.into()),
    })
}

/// Changes nothing if the directory is of a later version. `boot_id` is that of now: what was released before has cooled.
pub(super) fn read(dir: &Path, boot_id: &str) -> Result<(Content, Vec<SetAside>), StoreError> {
    let mut content = Content::default();
    let mut aside = Vec::new();
    match read_schema(dir)? {
        Ok(Some(schema)) => content.is_new = !schema.finished,
        Ok(None) => begin(dir, &mut content)?,
        Err(problem) => {
            aside.push(set_aside(dir, SCHEMA_FILE, problem)?);
            begin(dir, &mut content)?;
        }
    }
    durable::remove_unfinished(dir, SystemTime::now()).map_err(StoreError::io(dir))?;
    let names = names(dir).map_err(StoreError::io(dir))?;
    let of_kind = |wanted: fn(&Kind) -> bool| {
        names.iter().filter_map(move |name| Some((name.as_str(), Kind::of(name).filter(wanted)?)))
    };
    for (name, _) in of_kind(|kind| *kind == Kind::Record) {
        match read_record(dir, name)? {
            Ok(record) => drop(content.records.insert(record.id.clone(), record)),
            Err(problem) => {
                aside.push(set_aside(dir, name, problem)?);
                content.lost.insert(name.to_owned());
            }
        }
    }
    for (name, kind) in of_kind(|kind| *kind != Kind::Record) {
        let Kind::Released { boot_id: released_in, at } = kind else { continue };
        let unused = match read_record(dir, name)? {
            Ok(record) if released_in == boot_id => content.released.insert(&record.addresses, at, name),
            Ok(_) => vec![name.to_owned()],
            Err(problem) => {
                aside.push(set_aside(dir, name, problem)?);
                vec![name.to_owned()]
            }
        };
        remove_unused(dir, unused);
    }
    for record in content.records.values() {
        remove_unused(dir, content.released.take(&record.addresses));
    }
    Ok((content, aside))
}

/// Marks a directory as a store that does not say yet what lives on the node.
fn begin(dir: &Path, content: &mut Content) -> Result<(), StoreError> {
    content.is_new = true;
    write_schema(dir, false)
}

pub(super) fn write_schema(dir: &Path, finished: bool) -> Result<(), StoreError> {
    let path = dir.join(SCHEMA_FILE);
    let text = format!(r#"{{"schema":{SCHEMA},"finished":{finished}}}{}"#, "\n");
    durable::replace(&path, text.as_bytes(), PRIVATE).map_err(StoreError::io(&path))
}

/// `Ok(None)`: there is none. `Err`: what is wrong with it.
fn read_schema(dir: &Path) -> Result<Result<Option<Schema>, String>, StoreError> {
    /// All that is certain of a later version's.
    #[derive(Deserialize)]
    struct Number {
        schema: u32,
    }
    let path = dir.join(SCHEMA_FILE);
    let text = match fs::read(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Ok(None)),
        read => read.map_err(StoreError::io(&path))?,
    };
    match serde_json::from_slice(&text) {
        Ok(Number { schema: found }) if found > SCHEMA => Err(StoreError::NewerSchema { path, found, known: SCHEMA }),
        Ok(Number { schema: SCHEMA }) => Ok(serde_json::from_slice(&text).map(Some).map_err(|error| error.to_string())),
        Ok(Number { schema }) => Ok(Err(format!("no agent wrote schema {schema}"))),
        Err(error) => Ok(Err(error.to_string())),
    }
}

fn read_record(dir: &Path, name: &str) -> Result<Result<AttachmentRecord, String>, StoreError> {
    let path = dir.join(name);
    match fs::read(&path) {
        // The disk has lost it: that is damage of one file, as bad content is.
        Err(error) if error.raw_os_error() == Some(libc::EIO) => Ok(Err(error.to_string())),
        read => Ok(file::decode(name, &read.map_err(StoreError::io(&path))?)),
    }
}

/// Keeps a damaged file under a second name, and leaves it where it is: an agent that dies now finds it again.
fn set_aside(dir: &Path, name: &str, problem: String) -> Result<SetAside, StoreError> {
    let path = dir.join(name);
    let keep = || {
        let kept_as = dir.join(file::damaged_name(name, path.metadata()?.modified()?));
        match fs::hard_link(&path, &kept_as) {
            // By an agent that died then.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            linked => linked?,
        }
        Ok(kept_as)
    };
    let kept_as = keep().map_err(StoreError::io(&path))?;
    Ok(SetAside { kept_as, problem: format!("{}: {problem}", path.display()) })
}

/// Need not be on the disk: a file that comes back is found to be of no use again.
pub(super) fn remove_unused(dir: &Path, names: Vec<String>) {
    for name in names {
        if let Err(error) = fs::remove_file(dir.join(&name))
            && error.kind() != ErrorKind::NotFound
        {
            tracing::warn!(name, %error, "a file of the store that is of no use any more cannot be removed");
        }
    }
}

/// Of plain files, in order. Names that are not UTF-8 are none of ours.
fn names(dir: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            names.extend(entry.file_name().into_string());
        }
    }
    names.sort();
    Ok(names)
}
