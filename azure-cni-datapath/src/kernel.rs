//! What the programs need of a kernel. Found out by trying and never by a version, as distributions carry features back.

use std::fmt;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use aya::maps::MapType;
use aya::programs::ProgramType;
use aya::sys::{is_helper_supported, is_map_supported};
use aya_obj::generated::bpf_func_id::{self, BPF_FUNC_ktime_get_coarse_ns, BPF_FUNC_redirect_peer};
use aya_obj::generated::bpf_prog_type::BPF_PROG_TYPE_SCHED_CLS;

/// A feature without which no program loads.
#[derive(Debug)]
pub struct Feature {
    what: &'static str,
    /// The first Linux that has it, and the first that has it on arm64.
    since: [&'static str; 2],
    probe: Probe,
}

#[derive(Debug)]
enum Probe {
    Map(MapType),
    Helper(bpf_func_id),
    /// Programs of this kind load. The last of their instructions is an exit.
    Program(&'static [u64]),
}

/// `r1 = 0; *(u64 *)(r10 - 8) = r1; r0 = 0; lock cmpxchg(*(u64 *)(r10 - 8), r1); exit`, as struct bpf_insn (include/uapi/linux/bpf.h).
const COMPARE_EXCHANGE: &[u64] = &[0x01b7, 0xfff8_1a7b, 0x00b7, 0xf1_fff8_1adb, 0x95];

/// In ascending order of `since`.
static FEATURES: &[Feature] = &[
    Feature {
        what: "ring buffers: the agent hears of packets that were refused",
        since: ["5.8"; 2],
        probe: Probe::Map(MapType::RingBuf),
    },
    Feature {
        what: "`bpf_redirect_peer`: a packet goes into a pod without a second queue",
        since: ["5.10"; 2],
        probe: Probe::Helper(BPF_FUNC_redirect_peer),
    },
    Feature {
        what: "`bpf_ktime_get_coarse_ns`: the time without a look at the hardware",
        since: ["5.11"; 2],
        probe: Probe::Helper(BPF_FUNC_ktime_get_coarse_ns),
    },
    Feature {
        // Before 5.18 the compiler (JIT) of arm64 has none (arch/arm64/net/bpf_jit_comp.c), and most distributions allow no other way.
        what: "atomic instructions that return what was there",
        since: ["5.12", "5.18"],
        probe: Probe::Program(COMPARE_EXCHANGE),
    },
];

impl Feature {
    /// Whether the kernel has it. What cannot be found out counts as there: the loading then says why.
    fn is_there(&self) -> bool {
        match self.probe {
            Probe::Map(kind) => is_map_supported(kind).unwrap_or(true),
            Probe::Helper(helper) => is_helper_supported(ProgramType::SchedClassifier, helper).unwrap_or(true),
            Probe::Program(instructions) => match load_instructions("probe", instructions) {
                Ok(_) => true,
                Err(error) => !error.raw_os_error().is_some_and(says_no),
            },
        }
    }
}

/// Whether the kernel refuses a program for what is in it. The verifier says EINVAL; a kernel that must compile what it cannot says ENOTSUPP,
/// which has no name in user space (include/linux/errno.h; kernel/bpf/core.c, bpf_prog_select_runtime).
const fn says_no(errno: i32) -> bool {
    const ENOTSUPP: i32 = 524;
    matches!(errno, libc::EINVAL | ENOTSUPP)
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [since, since_on_arm64] = self.since;
        let since = if cfg!(target_arch = "aarch64") { since_on_arm64 } else { since };
        write!(f, "{} (Linux {since} or later)", self.what)
    }
}

/// What this kernel lacks. Needs the rights to load programs.
pub fn missing() -> impl Iterator<Item = &'static Feature> {
    FEATURES.iter().filter(|feature| !feature.is_there())
}

/// The parts of `union bpf_attr` that BPF_PROG_LOAD reads here (include/uapi/linux/bpf.h).
#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
}

const BPF_PROG_LOAD: libc::c_long = 5;

/// Loads a TC program of a few instructions, each a `struct bpf_insn` as a native word. Of a name, 15 bytes are kept.
pub fn load_instructions(name: &str, instructions: &[u64]) -> io::Result<OwnedFd> {
    let mut attr = LoadAttr {
        prog_type: BPF_PROG_TYPE_SCHED_CLS as u32,
        insn_cnt: instructions.len() as u32,
        insns: instructions.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        ..LoadAttr::default()
    };
    attr.prog_name.iter_mut().zip(name.bytes().take(15)).for_each(|(place, byte)| *place = byte);
    // SAFETY: every address in `attr` is of memory that lives longer than the call.
    let program = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const attr, size_of::<LoadAttr>()) };
    if program < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor, and nothing else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(program as i32) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_is_told_from_want_of_memory_and_of_rights() {
        assert!(says_no(libc::EINVAL) && says_no(524));
        assert!(![libc::ENOMEM, libc::EPERM, libc::EAGAIN].into_iter().any(says_no));
    }

    #[test]
    fn readme_names_every_feature_and_the_oldest_linux_that_has_all() {
        let readme = include_str!("../../README.md");
        for Feature { what, since: [since, on_arm64], .. } in FEATURES {
            let row = format!("| {what} | {since} | {on_arm64} |");
            assert!(readme.contains(&row), "{row}");
        }
        let [newest, on_arm64] = FEATURES.last().expect("there are some").since;
        assert!(readme.contains(&format!("Linux {newest} or later (on arm64 {on_arm64})")), "{newest}");
    }
}
