//! Loads code that was made here, which aya takes from objects only.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use aya_obj::generated::{bpf_cmd, bpf_func_info, bpf_insn, bpf_prog_type};

pub struct Code<'code> {
    pub name: &'code str,
    pub instructions: &'code [bpf_insn],
    /// Where functions begin, and their types in the BTF of this id.
    pub functions: &'code [bpf_func_info],
    pub btf_id: Option<u32>,
}

/// The members of `union bpf_attr` for BPF_PROG_LOAD (include/uapi/linux/bpf.h), as far as they are used here: the kernel takes the
/// rest to be zero.
#[repr(C)]
#[derive(Default)]
struct ProgLoad {
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
    prog_ifindex: u32,
    expected_attach_type: u32,
    prog_btf_fd: u32,
    func_info_rec_size: u32,
    func_info: u64,
    func_info_cnt: u32,
    line_info_rec_size: u32,
}

/// For BPF_OBJ_PIN.
#[repr(C)]
struct ObjPin {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// For BPF_BTF_GET_FD_BY_ID.
#[repr(C)]
struct ById {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

/// Loads a program for TC and pins it.
pub(super) fn load_classifier(code: &Code, pin: &Path) -> io::Result<()> {
    let program = load(code, None).map_err(|error| {
        let mut log = Log::of(BPF_LOG_LEVEL1);
        let _ = load(code, Some(&mut log));
        io::Error::new(error.kind(), format!("{error}\n{}", log.end()))
    })?;
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let pin = ObjPin { pathname: path.as_ptr() as u64, bpf_fd: program.as_raw_fd() as u32, file_flags: 0 };
    bpf(bpf_cmd::BPF_OBJ_PIN, &pin).map(drop)
}

/// What the verifier may say (include/linux/bpf_verifier.h).
const BPF_LOG_LEVEL1: u32 = 1;

struct Log {
    level: u32,
    text: Vec<u8>,
}

impl Log {
    fn of(level: u32) -> Self {
        Self { level, text: vec![0; 1 << 24] }
    }

    /// The last lines.
    fn end(&self) -> String {
        let text = String::from_utf8_lossy(&self.text);
        let lines: Vec<&str> = text.trim_end_matches('\0').lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

fn load(code: &Code, log: Option<&mut Log>) -> io::Result<OwnedFd> {
    let by_id = |id| file(bpf_cmd::BPF_BTF_GET_FD_BY_ID, &ById { id, next_id: 0, open_flags: 0 });
    let btf = code.btf_id.map(by_id).transpose()?;
    let mut prog_name = [0; 16];
    let kept = code.name.len().min(prog_name.len() - 1);
    prog_name[..kept].copy_from_slice(&code.name.as_bytes()[..kept]);
    let (log_level, log_size, log_buf) =
        log.map_or((0, 0, 0), |log| (log.level, log.text.len() as u32, log.text.as_mut_ptr() as u64));
    let load = ProgLoad {
        prog_type: bpf_prog_type::BPF_PROG_TYPE_SCHED_CLS as u32,
        insn_cnt: code.instructions.len() as u32,
        insns: code.instructions.as_ptr() as u64,
        license: c"Dual MIT/GPL".as_ptr() as u64,
        log_level,
        log_size,
        log_buf,
        prog_name,
        prog_btf_fd: btf.as_ref().map_or(0, |btf| btf.as_raw_fd() as u32),
        func_info_rec_size: size_of::<bpf_func_info>() as u32,
        func_info: code.functions.as_ptr() as u64,
        func_info_cnt: code.functions.len() as u32,
        ..ProgLoad::default()
    };
    file(bpf_cmd::BPF_PROG_LOAD, &load)
}

/// A command that returns a file.
fn file<Attributes>(command: bpf_cmd, attributes: &Attributes) -> io::Result<OwnedFd> {
    let fd = bpf(command, attributes)?;
    // SAFETY: the kernel has just made it, for this call alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// bpf(2). The attributes are a prefix of what the command reads, and every address in them is good for its length.
fn bpf<Attributes>(command: bpf_cmd, attributes: &Attributes) -> io::Result<RawFd> {
    let (address, size) = (std::ptr::from_ref(attributes), size_of::<Attributes>());
    // SAFETY: the kernel reads no more than `size` bytes from `address`; this module's callers keep what they refer to.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command as libc::c_long, address, size) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as RawFd) }
}
