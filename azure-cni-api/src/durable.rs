//! Small files that are either as before or as written, whatever happens: on the disk when the call returns.

use std::fs::{self, DirBuilder, File};
use std::io::{ErrorKind, Result, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// Puts the file in place of what is there, if anything; makes the directory if absent.
pub fn write_durably(dir: &Path, name: &str, content: &[u8]) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let unfinished = dir.join(format!(".{name}.new"));
    let mut file = File::create(&unfinished)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&unfinished, dir.join(name))?;
    sync(dir)
}

/// Removes the file; one that is not there is removed already.
pub fn remove_durably(dir: &Path, name: &str) -> Result<()> {
    match fs::remove_file(dir.join(name)) {
        Ok(()) => sync(dir),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// A name is safe only once the directory that has it is.
fn sync(dir: &Path) -> Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_nothing_else_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("a/b");
        for content in ["longer than", "this"] {
            write_durably(&below, "f", content.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(below.join("f")).unwrap(), content);
        }
        assert_eq!(fs::read_dir(&below).unwrap().count(), 1);
        for _ in 0..2 {
            remove_durably(&below, "f").unwrap();
        }
        assert_eq!(fs::read_dir(&below).unwrap().count(), 0);
    }

    #[test]
    fn a_file_that_cannot_be_written_leaves_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        write_durably(dir.path(), "f", b"before").unwrap();
        fs::create_dir(dir.path().join(".f.new")).unwrap();
        assert!(write_durably(dir.path(), "f", b"after").is_err());
        assert_eq!(fs::read_to_string(dir.path().join("f")).unwrap(), "before");
    }
}
