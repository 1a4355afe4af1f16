//! What a machine must have to run the system tests.
//!
//! A test that cannot run fails and says what is missing; it is never skipped.

use std::{path::Path, process::Command, sync::OnceLock, thread};

use nix::{
    sched::{CloneFlags, unshare},
    unistd::geteuid,
};

use crate::{
    error::{Error, Result},
    sandbox,
};

/// The kernel's own types, which loading the programs needs.
const BTF: &str = "/sys/kernel/btf/vmlinux";

/// Checks the machine, once per process; the error names what is missing and what to do about it.
pub fn require_capable() -> Result<()> {
    static CHECKED: OnceLock<Option<(String, String)>> = OnceLock::new();
    match CHECKED.get_or_init(first_gap) {
        None => Ok(()),
        Some((missing, remedy)) => Err(Error::Incapable { missing: missing.clone(), remedy: remedy.clone() }),
    }
}

fn first_gap() -> Option<(String, String)> {
    let gap = |missing: &str, remedy: &str| Some((missing.to_owned(), remedy.to_owned()));
    if !geteuid().is_root() {
        return gap("not root", "network namespaces and eBPF need it: run as root");
    }
    if !Path::new(BTF).exists() {
        return gap("no BTF (/sys/kernel/btf/vmlinux)", "boot a kernel with CONFIG_DEBUG_INFO_BTF=y, and mount /sys");
    }
    if Command::new("ip").arg("-V").output().is_err() {
        return gap("no `ip` command", "run `cargo xtask setup`, or install iproute2");
    }
    thread::scope(|scope| scope.spawn(namespace_gap).join().expect("does not panic"))
}

/// Tries what the kernel must offer, on a thread with its own namespaces, which end with the thread.
fn namespace_gap() -> Option<(String, String)> {
    if let Err(errno) = unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET) {
        return Some((format!("no new namespaces ({errno})"), "give the container CAP_SYS_ADMIN".into()));
    }
    if let Err(error) = sandbox::make_private().and_then(|()| sandbox::mount_fs("bpf", Path::new("/run"))) {
        return Some((format!("no bpf file system ({error})"), "boot a kernel with CONFIG_BPF_SYSCALL=y".into()));
    }
    let veth = Command::new("ip").args("link add one type veth peer name two".split(' ')).output();
    let refusal = match veth {
        Ok(output) if output.status.success() => return None,
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    Some((format!("no veth pairs ({refusal})"), "boot a kernel with CONFIG_VETH, or load the module veth".into()))
}
