//! Finds the binaries of this workspace: the very files that users run.

use std::{
    env,
    path::{Path, PathBuf},
};

use crate::error::{Attempt, Error, Result};

/// The directory that binaries are taken from: `AZURE_CNI_BIN_DIR`, else next to the running executable.
pub(crate) fn directory() -> Result<PathBuf> {
    if let Some(dir) = env::var_os("AZURE_CNI_BIN_DIR") {
        return Ok(dir.into());
    }
    let executable = env::current_exe().attempt(|| "find the running executable".into())?;
    Ok(beside(&executable))
}

/// One binary by name.
pub(crate) fn locate(name: &str) -> Result<PathBuf> {
    let searched = directory()?;
    let path = searched.join(name);
    if path.is_file() { Ok(path) } else { Err(Error::MissingBinary { name: name.into(), searched }) }
}

/// Test executables lie in `deps`, one level below the binaries.
fn beside(executable: &Path) -> PathBuf {
    let dir = executable.parent().unwrap_or(executable);
    if dir.ends_with("deps") { dir.parent().unwrap_or(dir).to_owned() } else { dir.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_and_binaries_find_the_same_directory() {
        assert_eq!(beside(Path::new("/t/debug/deps/fabric-0123")), Path::new("/t/debug"));
        assert_eq!(beside(Path::new("/t/debug/demo")), Path::new("/t/debug"));
    }
}
