//! A private mount namespace for the calling thread, with an empty `/run` of its own.
//!
//! Named network namespaces, bpf file systems, sockets and files of a network live only there. When the thread (and
//! what it started) is gone, the kernel takes the mounts down, and with them the namespaces, links and programs; no
//! clean-up code has to run. Inside, `/run/netns` is where iproute2 looks, so `ip netns exec` works there.

use std::{
    cell::Cell,
    env,
    fs::{self, File},
    marker::PhantomData,
    path::{Path, PathBuf},
    sync::MutexGuard,
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
};

use crate::error::{Attempt, Error, Result};

/// Where the private tmpfs hides what the machine keeps for its own running system.
const ROOT: &str = "/run";
/// Where iproute2 looks for named namespaces (`NETNS_RUN_DIR`, iproute2's include/namespace.h).
const NAMESPACES: &str = "/run/netns";
/// Proves to a thread that the `/run` it sees is ours: without it a mount could land on the machine's own tree.
const MARKER: &str = "/run/.azure-cni-sandbox";

thread_local! {
    static OCCUPIED: Cell<bool> = const { Cell::new(false) };
}

/// The calling thread's private mount namespace; dropping it unmounts everything in it.
///
/// Threads and processes started meanwhile share it. It stays on the thread that made it.
pub struct Sandbox {
    outside: File,
    working_dir: PathBuf,
    /// Mount namespaces belong to threads: `!Send`, but `&Sandbox` may be shared.
    _this_thread: PhantomData<MutexGuard<'static, ()>>,
}

impl Sandbox {
    /// Moves the calling thread into a mount namespace of its own.
    pub fn enter() -> Result<Self> {
        if OCCUPIED.replace(true) {
            return Err(Error::Sandbox("this thread has a network already: drop it first, or start a thread"));
        }
        Self::build().inspect_err(|_| OCCUPIED.set(false))
    }

    fn build() -> Result<Self> {
        let outside = File::open("/proc/thread-self/ns/mnt").attempt(|| "open the mount namespace".into())?;
        let working_dir = env::current_dir().attempt(|| "find the working directory".into())?;
        unshare(CloneFlags::CLONE_NEWNS).attempt(|| "unshare the mount namespace (are you root?)".into())?;
        make_private()?;
        mount_fs("tmpfs", Path::new(ROOT))?;
        fs::create_dir(NAMESPACES).attempt(|| format!("create {NAMESPACES}"))?;
        fs::write(MARKER, "").attempt(|| format!("create {MARKER}"))?;
        Ok(Self { outside, working_dir, _this_thread: PhantomData })
    }

    /// A new directory of this sandbox.
    pub fn create_dir(&self, name: &str) -> Result<PathBuf> {
        let path = Path::new(ROOT).join(name);
        fs::create_dir_all(&path).attempt(|| format!("create {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // Detaching the tmpfs takes every mount below it along. Errors need no report: the kernel does the same when the
        // thread ends.
        let _ = umount2(ROOT, MntFlags::MNT_DETACH);
        if setns(&self.outside, CloneFlags::CLONE_NEWNS).is_ok() {
            let _ = env::set_current_dir(&self.working_dir);
        }
        OCCUPIED.set(false);
    }
}

/// The path of the named namespace `name`; fails on a thread that is in no sandbox.
pub(crate) fn namespace_path(name: &str) -> Result<PathBuf> {
    if !Path::new(MARKER).exists() {
        return Err(Error::Sandbox("this thread is in no sandbox: a network must exist before namespaces are made"));
    }
    Ok(Path::new(NAMESPACES).join(name))
}

/// Mounts a fresh file system of a type that needs no device.
pub(crate) fn mount_fs(fs_type: &str, target: &Path) -> Result<()> {
    mount(Some(fs_type), target, Some(fs_type), MsFlags::empty(), None::<&str>)
        .attempt(|| format!("mount a {fs_type} on {}", target.display()))
}

/// Mounts a tmpfs with options, on a thread that is in a sandbox.
pub(crate) fn mount_tmpfs(target: &Path, options: &str) -> Result<()> {
    if !Path::new(MARKER).exists() {
        return Err(Error::Sandbox("this thread is in no sandbox: a mount would be seen by the machine"));
    }
    let read_only = options.split(',').any(|option| option == "ro");
    let flags = if read_only { MsFlags::MS_RDONLY } else { MsFlags::empty() };
    let data: Vec<&str> = options.split(',').filter(|option| *option != "ro").collect();
    mount(Some("tmpfs"), target, Some("tmpfs"), flags, Some(data.join(",").as_str()))
        .attempt(|| format!("mount a tmpfs on {}", target.display()))
}

/// Stops mounts made from here on from spreading to the machine.
pub(crate) fn make_private() -> Result<()> {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .attempt(|| "make the mounts private".into())
}
