//! A named network namespace, and how to run code in it.
//!
//! A namespace belongs to a thread, never to a caller: closures run on a thread made for them, commands enter between
//! fork and exec. So no code here can leave a thread of the caller's in the wrong namespace.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io,
    os::{fd::AsFd, unix::process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
};

use crate::{
    error::{Attempt, Result},
    process, sandbox,
};

/// The longest that `ip` may take.
const LIMIT: Duration = Duration::from_secs(10);

/// A network namespace with a name; it vanishes with this value, once nothing runs in it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    path: PathBuf,
    handle: File,
}

impl Namespace {
    /// Makes a namespace with nothing but a `lo` that is up.
    pub fn create(name: &str) -> Result<Self> {
        let path = sandbox::namespace_path(name)?;
        File::create_new(&path).attempt(|| format!("create {}", path.display()))?;
        let handle = thread::scope(|scope| scope.spawn(|| pin_new_namespace(&path)).join().expect("does not panic"))
            .attempt(|| format!("create the namespace {name}"))?;
        let namespace = Self { name: name.into(), path, handle };
        let mut command = namespace.command("ip")?;
        command.args(["link", "set", "lo", "up"]);
        process::run_ok(command, b"", LIMIT)?;
        Ok(namespace)
    }

    /// The name that `ip netns` knows.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The path that `CNI_NETNS` carries.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `work` on a thread inside; sockets opened there stay inside.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        run_inside(&self.handle, work)
    }

    /// A handle for callers that cannot borrow the namespace.
    pub(crate) fn entrance(&self) -> Result<Entrance> {
        let handle = self.handle.try_clone().attempt(|| format!("duplicate the handle of {}", self.name))?;
        Ok(Entrance { name: self.name.clone(), handle })
    }

    /// A command that will run inside and die with the thread that starts it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Result<Command> {
        let handle = self.handle.try_clone().attempt(|| format!("duplicate the handle of {}", self.name))?;
        let mut command = Command::new(program);
        process::die_with_parent(&mut command);
        // SAFETY: between fork and exec the closure makes one system call on a descriptor that it owns, which is
        // async-signal-safe; it allocates nothing and takes no lock.
        unsafe { command.pre_exec(move || Ok(setns(handle.as_fd(), CloneFlags::CLONE_NEWNET)?)) };
        Ok(command)
    }

    /// Writes a sysctl of this namespace, such as `net/ipv4/ip_forward`.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        self.run(|| fs::write(format!("/proc/sys/{key}"), value))
            .attempt(|| format!("set {key}={value} in {}", self.name))
    }
}

/// Leads into a namespace, which it keeps in being.
#[derive(Debug)]
pub(crate) struct Entrance {
    name: String,
    handle: File,
}

impl Entrance {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Like [`Namespace::run`].
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        run_inside(&self.handle, work)
    }
}

fn run_inside<T: Send>(handle: &File, work: impl FnOnce() -> T + Send) -> T {
    let inside = || {
        setns(handle, CloneFlags::CLONE_NEWNET).expect("root may enter a namespace it holds open");
        work()
    };
    thread::scope(|scope| scope.spawn(inside).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The sandbox's tmpfs removes the rest.
        let _ = umount2(&self.path, MntFlags::MNT_DETACH);
        let _ = fs::remove_file(&self.path);
    }
}

/// Moves the calling thread to a new namespace and pins that at `path`.
fn pin_new_namespace(path: &Path) -> io::Result<File> {
    const SELF: &str = "/proc/thread-self/ns/net";
    unshare(CloneFlags::CLONE_NEWNET)?;
    mount(Some(SELF), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    File::open(SELF)
}
