//! Links of our programs that this agent has not pinned: what an agent with another `bpffs_dir` has left at an interface.
//!
//! The rule: two of our programs never look at one packet. A link that is found is pinned here, and its program swapped, so that
//! the interface is never without one either; further ones are detached. aya tells which programs run, not by which links.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use aya::programs::{ProgramError, SchedClassifier, TcAttachType};

use crate::hook::Hook;
use crate::tcx_query::{BPF_TCX_EGRESS, BPF_TCX_INGRESS, bpf, query};

/// `enum bpf_cmd` (include/uapi/linux/bpf.h).
const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_LINK_GET_FD_BY_ID: libc::c_long = 30;
const BPF_LINK_DETACH: libc::c_long = 34;

/// As many programs as the kernel takes at one place (include/linux/bpf_mprog.h, BPF_MPROG_MAX).
const MAX_PROGRAMS: usize = 64;

/// The part of `union bpf_attr` that BPF_OBJ_PIN reads (include/uapi/linux/bpf.h). Addresses as 64-bit integers.
#[repr(C)]
struct PinAttr {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// The same of the commands that name one link: by its id, or by a descriptor.
#[repr(C)]
#[derive(Default)]
struct LinkAttr {
    link: u32,
    unused: [u32; 2],
}

/// The programs with the hook's name that run at an interface by TCX, this agent's and others, by their ids. This reads only.
pub(crate) fn running(hook: Hook, interface: &str, direction: TcAttachType) -> Result<BTreeSet<u32>, ProgramError> {
    let (_, running) = SchedClassifier::query_tcx(interface, direction)?;
    let ours = running.iter().filter(|program| program.name_as_str() == Some(hook.program()));
    Ok(ours.map(aya::programs::ProgramInfo::id).collect())
}

/// Pins one link of these programs; false if there is none.
pub(crate) fn adopt(hook: Hook, interface: &str, programs: &BTreeSet<u32>, pin: &Path) -> io::Result<bool> {
    let Some(link) = links(hook, interface, programs)?.into_iter().next() else { return Ok(false) };
    let Some(link) = open(link)? else { return Ok(false) };
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let mut attr = PinAttr { pathname: path.as_ptr() as u64, bpf_fd: link.as_raw_fd() as u32, file_flags: 0 };
    // SAFETY: the path and the descriptor live longer than the call.
    unsafe { bpf(BPF_OBJ_PIN, &mut attr) }?;
    Ok(true)
}

/// Detaches the links of these programs, whoever has pinned them.
pub(crate) fn detach(hook: Hook, interface: &str, programs: &BTreeSet<u32>) -> io::Result<()> {
    for id in links(hook, interface, programs)? {
        let Some(link) = open(id)? else { continue };
        let mut attr = LinkAttr { link: link.as_raw_fd() as u32, ..LinkAttr::default() };
        // SAFETY: the descriptor lives longer than the call, which reads no address.
        unsafe { bpf(BPF_LINK_DETACH, &mut attr) }?;
        tracing::warn!(
            interface,
            program = hook.program(),
            link = id,
            "detached a program that another agent has left"
        );
    }
    Ok(())
}

/// The links of these programs at an interface.
fn links(hook: Hook, interface: &str, programs: &BTreeSet<u32>) -> io::Result<Vec<u32>> {
    let (mut program_ids, mut link_ids) = ([0_u32; MAX_PROGRAMS], [0_u32; MAX_PROGRAMS]);
    let place = if hook.is_ingress() { BPF_TCX_INGRESS } else { BPF_TCX_EGRESS };
    let count = query(interface, place, &mut program_ids, &mut link_ids)?;
    let found = program_ids.into_iter().zip(link_ids).take(count);
    // Number 0: attached without a link, which no agent does.
    Ok(found.filter(|(program, link)| programs.contains(program) && *link != 0).map(|(_, link)| link).collect())
}

/// `None` if nobody holds the link any more. The kernel detaches such a link a moment later (kernel/bpf/syscall.c,
/// bpf_link_put), and lists it until then.
fn open(link: u32) -> io::Result<Option<OwnedFd>> {
    let mut attr = LinkAttr { link, ..LinkAttr::default() };
    // SAFETY: the call reads no address.
    let descriptor = match unsafe { bpf(BPF_LINK_GET_FD_BY_ID, &mut attr) } {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        made => made?,
    };
    // SAFETY: the kernel has just made this descriptor, and nothing else knows it.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(descriptor) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_laid_out_as_the_kernel_reads_them() {
        assert_eq!(size_of::<PinAttr>(), 16);
    }
}
