//! Where the checkout is, and the cargo that serves it.
//!
//! A child never inherits what `cargo run` tells xtask about xtask's own package: build scripts that watch those variables would run
//! again, and a compiler of another toolchain would be handed this one's libraries.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
    /// Where the agent's build looks for the eBPF programs.
    pub(crate) ebpf_object: PathBuf,
    cargo: OsString,
}

impl Workspace {
    pub(crate) fn find() -> Result<Self> {
        let package = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let root = Path::new(&package).parent().context("xtask has no parent directory")?.to_owned();
        let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |target| root.join(target));
        let ebpf_object = env::var_os("AZURE_CNI_EBPF_OBJECT")
            .context(
                "AZURE_CNI_EBPF_OBJECT is not set: run this through `cargo xtask`, which reads .cargo/config.toml",
            )?
            .into();
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        Ok(Self { root, target, ebpf_object, cargo })
    }

    /// A checkout that need not exist.
    #[cfg(test)]
    pub(crate) fn at(root: &Path) -> Self {
        let target = root.join("target");
        Self { root: root.to_owned(), ebpf_object: target.join("ebpf/object"), target, cargo: "cargo".into() }
    }

    /// The cargo that runs xtask, for the host's packages.
    pub(crate) fn cargo(&self) -> Command {
        self.command(&self.cargo)
    }

    /// Any program, at the top of the checkout, free of what cargo says about xtask.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root);
        for (name, _) in env::vars_os() {
            if name.to_str().is_some_and(is_about_xtask) {
                command.env_remove(name);
            }
        }
        command
    }
}

fn is_about_xtask(variable: &str) -> bool {
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"].iter().any(|prefix| variable.starts_with(prefix))
        || ["CARGO_PRIMARY_PACKAGE", "LD_LIBRARY_PATH"].contains(&variable)
}

/// Writes `content` to `path` unless it is there already, so that cargo does not rebuild what embeds it. Says whether it wrote.
pub(crate) fn write_if_changed(path: &Path, content: &[u8]) -> Result<bool> {
    if fs::read(path).is_ok_and(|present| present == content) {
        return Ok(false);
    }
    let directory = path.parent().with_context(|| format!("{} has no parent directory", path.display()))?;
    fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    // A reader sees the old content or the new, never half of it.
    let unfinished = path.with_extension("new");
    fs::write(&unfinished, content).with_context(|| format!("cannot write {}", unfinished.display()))?;
    fs::rename(&unfinished, path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn unchanged_content_keeps_its_modification_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ebpf").join("object");
        assert!(write_if_changed(&path, b"one").unwrap());
        let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        fs::File::options().write(true).open(&path).unwrap().set_modified(long_ago).unwrap();

        assert!(!write_if_changed(&path, b"one").unwrap());
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), long_ago);

        assert!(write_if_changed(&path, b"two").unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn what_cargo_says_about_xtask_is_withheld_and_the_rest_passes() {
        for withheld in ["CARGO_PKG_NAME", "CARGO_MANIFEST_DIR", "LD_LIBRARY_PATH"] {
            assert!(is_about_xtask(withheld), "{withheld}");
        }
        for passed in ["CARGO_HOME", "CARGO_TARGET_DIR", "CARGO_TERM_COLOR", "PATH", "AZURE_CNI_EBPF_OBJECT"] {
            assert!(!is_about_xtask(passed), "{passed}");
        }
    }
}
