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
    use std::fs;

    use super::*;

    /// Each library that the loader has to find and map is time that every pod waits. Plain `cargo build` links the plugin to
    /// libraries; `cargo xtask` builds the one that users install.
    #[test]
    fn plugin_is_linked_statically() {
        // An ELF file that needs libraries names their loader in a segment of its own (elf.h: Elf64_Ehdr, Elf64_Phdr, PT_INTERP).
        const PT_INTERP: u32 = 3;
        let path = locate("azure-cni").unwrap();
        let plugin = fs::read(&path).unwrap();
        let half = |at: usize| usize::from(u16::from_ne_bytes(plugin[at..][..2].try_into().unwrap()));
        let segments = u64::from_ne_bytes(plugin[0x20..][..8].try_into().unwrap()) as usize;
        let (size, count) = (half(0x36), half(0x38));
        let mut segments = plugin[segments..][..size * count].chunks(size);
        let is_static = count > 0 && segments.all(|segment| segment[..4] != PT_INTERP.to_ne_bytes());
        assert!(is_static, "{} needs libraries: build it with `cargo xtask build`", path.display());
    }

    #[test]
    fn tests_and_binaries_find_the_same_directory() {
        assert_eq!(beside(Path::new("/t/debug/deps/fabric-0123")), Path::new("/t/debug"));
        assert_eq!(beside(Path::new("/t/debug/demo")), Path::new("/t/debug"));
    }
}
