//! Files that are as before or as written, and whole, whatever happens in between. On the disk when the call returns.
//!
//! Content is written beside its place and then moved there. What a killed process leaves beside begins with a dot:
//! [`is_unfinished`] tells it apart, and [`remove_unfinished`] removes it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Result, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The mode of files and directories that only their owner may read.
pub const PRIVATE: u32 = 0o600;
pub const PRIVATE_DIR: u32 = 0o700;

/// Puts the content in place of what is there, if anything.
pub fn replace(place: &Path, content: &[u8], mode: u32) -> Result<()> {
    let mut draft = Draft::write(place, content, mode)?;
    draft.file.sync_all()?;
    draft.move_to(place)?;
    sync_dir_of(place)
}

/// Puts the content there unless something is there already, which is then left as it is; true if it was put there.
pub fn create(place: &Path, content: &[u8], mode: u32) -> Result<bool> {
    let draft = Draft::write(place, content, mode)?;
    draft.file.sync_all()?;
    // Unlike a rename, a link never replaces anything.
    let linked = fs::hard_link(&draft.beside, place);
    drop(draft);
    match linked {
        Ok(()) => sync_dir_of(place).map(|()| true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Puts a new file there, and waits for the disk once where [`replace`] waits twice.
///
/// A process that is killed leaves all or nothing, as ever. A machine that loses its power during the call may leave a file
/// that is cut short, so this is for content that carries a checksum. The one wait is for the file, after it was moved:
/// ext4, XFS and Btrfs write its name along with it, in the same commit of their journal.
pub fn create_checksummed(place: &Path, content: &[u8], mode: u32) -> Result<()> {
    let mut draft = Draft::write(place, content, mode)?;
    draft.move_to(place)?;
    draft.file.sync_all().inspect_err(|_| {
        // There is no more to be done about it than to report the first error.
        let _ = fs::remove_file(place);
    })
}

/// Gives a file another name in its directory.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to)?;
    sync_dir_of(to)
}

/// Removes the file; false if it was not there.
pub fn remove(place: &Path) -> Result<bool> {
    match fs::remove_file(place) {
        Ok(()) => sync_dir_of(place).map(|()| true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Makes the directory, and those above it, if it is absent.
pub fn create_dir(dir: &Path, mode: u32) -> Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(mode).create(dir)?;
    sync_dir_of(dir)
}

/// Whether a file of this name is content on its way to its place.
pub fn is_unfinished(name: &str) -> bool {
    name.starts_with('.')
}

/// Removes what has been unfinished since before that time: the process that wrote it is gone.
pub fn remove_unfinished(dir: &Path, before: SystemTime) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let is_old = |entry: &fs::DirEntry| entry.metadata()?.modified().map(|modified| modified < before);
        // One that is gone by now has been moved to its place.
        if is_unfinished(&entry.file_name().to_string_lossy()) && is_old(&entry).unwrap_or(false) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Content beside its place. Removed with this value unless it was moved.
struct Draft {
    file: File,
    beside: PathBuf,
    is_moved: bool,
}

impl Draft {
    fn write(place: &Path, content: &[u8], mode: u32) -> Result<Self> {
        let beside = draft_of(place).ok_or(ErrorKind::InvalidInput)?;
        // Left by a killed thread of the same numbers. It may be linked to its place already, so it is not opened.
        let _ = fs::remove_file(&beside);
        let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
        let mut draft = Self { file, beside, is_moved: false };
        draft.file.write_all(content)?;
        Ok(draft)
    }

    fn move_to(&mut self, place: &Path) -> Result<()> {
        fs::rename(&self.beside, place)?;
        self.is_moved = true;
        Ok(())
    }
}

/// Where this thread writes what is to go to this place: other threads and processes may write the same file.
pub fn draft_of(place: &Path) -> Option<PathBuf> {
    let name = place.file_name()?.to_string_lossy();
    Some(place.with_file_name(format!(".{name}.{}.{}", std::process::id(), nix::unistd::gettid())))
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.is_moved {
            let _ = fs::remove_file(&self.beside);
        }
    }
}

/// A name is safe only once the directory that has it is.
fn sync_dir_of(path: &Path) -> Result<()> {
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::time::Duration;

    use super::*;

    type Write = fn(&Path, &[u8], u32) -> Result<()>;

    /// The ways to write a file.
    const WAYS: [Write; 2] = [replace, create_checksummed];

    fn names(dir: &Path) -> Vec<String> {
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_and_nothing_else_is_left() {
        for write in WAYS {
            let dir = tempfile::tempdir().unwrap();
            let place = dir.path().join("f");
            for content in ["longer than", "this"] {
                write(&place, content.as_bytes(), PRIVATE).unwrap();
                assert_eq!(fs::read_to_string(&place).unwrap(), content);
            }
            assert_eq!(names(dir.path()), ["f"]);
            assert_eq!(place.metadata().unwrap().mode() & 0o777, PRIVATE);
            assert!(remove(&place).unwrap() && !remove(&place).unwrap());
            assert_eq!(names(dir.path()), [""; 0]);
        }
    }

    #[test]
    fn a_file_that_cannot_be_written_leaves_the_one_before() {
        for write in WAYS {
            let dir = tempfile::tempdir().unwrap();
            let place = dir.path().join("f");
            write(&place, b"before", PRIVATE).unwrap();
            fs::create_dir(draft_of(&place).unwrap()).unwrap();
            assert!(write(&place, b"after", PRIVATE).is_err());
            assert_eq!(fs::read_to_string(&place).unwrap(), "before");
        }
    }

    #[test]
    fn threads_that_write_the_same_file_do_not_touch_each_others_drafts() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("f");
        let contents = ["a", "b", "c", "d"].map(|letter| letter.repeat(8192));
        std::thread::scope(|scope| {
            for content in &contents {
                scope.spawn(|| (0..16).for_each(|_| replace(&place, content.as_bytes(), PRIVATE).unwrap()));
            }
        });
        assert!(contents.contains(&fs::read_to_string(&place).unwrap()));
        assert_eq!(names(dir.path()), ["f"]);
    }

    #[test]
    fn a_file_that_cannot_be_moved_leaves_nothing_beside() {
        for write in WAYS {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir(dir.path().join("f")).unwrap();
            assert!(write(&dir.path().join("f"), b"content", PRIVATE).is_err());
            assert_eq!(names(dir.path()), ["f"]);
        }
    }

    #[test]
    fn what_is_there_is_never_replaced_by_what_is_to_be_new() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("f");
        assert!(create(&place, b"first", 0o644).unwrap());
        assert!(!create(&place, b"second", 0o644).unwrap());
        assert_eq!(fs::read_to_string(&place).unwrap(), "first");
        assert_eq!(names(dir.path()), ["f"]);
    }

    #[test]
    fn what_a_killed_process_has_left_goes_in_time_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        for name in [".f.1", "f"] {
            fs::write(dir.path().join(name), "{").unwrap();
        }
        let now = SystemTime::now();
        remove_unfinished(dir.path(), now - Duration::from_secs(60)).unwrap();
        assert_eq!(names(dir.path()).len(), 2);
        remove_unfinished(dir.path(), now + Duration::from_secs(60)).unwrap();
        assert_eq!(names(dir.path()), ["f"]);
    }
}
