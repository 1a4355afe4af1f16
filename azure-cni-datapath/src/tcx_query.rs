//! Which programs run at an interface by TCX (BPF_PROG_QUERY), by their ids and those of their links. This reads only.

use std::io;

use nix::net::if_::if_nametoindex;

/// `enum bpf_cmd` (include/uapi/linux/bpf.h).
const BPF_PROG_QUERY: libc::c_long = 16;

/// `enum bpf_attach_type`.
pub(crate) const BPF_TCX_INGRESS: u32 = 46;
pub(crate) const BPF_TCX_EGRESS: u32 = 47;

/// The part of `union bpf_attr` that BPF_PROG_QUERY reads and writes (include/uapi/linux/bpf.h). Addresses as 64-bit integers.
#[repr(C)]
#[derive(Default)]
struct QueryAttr {
    target_ifindex: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    count: u32,
    unused: u32,
    prog_attach_flags: u64,
    link_ids: u64,
    link_attach_flags: u64,
    revision: u64,
}

/// Whether the kernel has TCX (6.6): whether it knows the place, at the loopback interface, which every network namespace has.
pub(crate) fn is_known() -> io::Result<bool> {
    match query("lo", BPF_TCX_INGRESS, &mut [], &mut []) {
        Ok(_) => Ok(true),
        // kernel/bpf/syscall.c, bpf_prog_query: a kind of place that it does not know.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(false),
        Err(error) => Err(error),
    }
}

/// What runs at a place of an interface, by the ids of programs and of their links. Both slices have one length; empty ones only count.
/// Returns how many there are.
pub(crate) fn query(interface: &str, place: u32, program_ids: &mut [u32], link_ids: &mut [u32]) -> io::Result<usize> {
    let count = program_ids.len().min(link_ids.len());
    let address = |ids: &mut [u32]| if count == 0 { 0 } else { ids.as_mut_ptr() as u64 };
    let mut attr = QueryAttr {
        target_ifindex: if_nametoindex(interface)?,
        attach_type: place,
        prog_ids: address(program_ids),
        link_ids: address(link_ids),
        count: count as u32,
        ..QueryAttr::default()
    };
    // SAFETY: both slices have room for `count` numbers, and live longer than the call.
    unsafe { bpf(BPF_PROG_QUERY, &mut attr) }?;
    Ok(attr.count as usize)
}

/// # Safety
/// `attr` is what the command reads, and the addresses in it are of memory that the command may use so.
pub(crate) unsafe fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<i32> {
    // SAFETY: by this function's own contract.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attr, size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_laid_out_as_the_kernel_reads_them() {
        assert_eq!(size_of::<QueryAttr>(), 64);
        assert_eq!(std::mem::offset_of!(QueryAttr, link_ids), 40);
    }
}
