//! eBPF programs of another owner: in the place of ours, at an interface of a VM.

use std::{fs, io, os::fd::AsRawFd, path::Path};

use aya::programs::{
    ProgramError, SchedClassifier, TcAttachType,
    tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle, qdisc_add_clsact},
};
use azure_cni_datapath::load_instructions;

use crate::{
    error::{Attempt, Result},
    station::Station,
    vm::Vm,
};

/// The name of the programs that [`Vm::plant_program`] attaches.
pub const FOREIGN_PROGRAM: &str = "foreign";

/// The place of the agent's filters.
const PRIORITY: u16 = 1;
const HANDLE: TcHandle = TcHandle::new(0, 0xac1);

impl Vm {
    /// Puts a program that passes every packet on into the place of the agent's filter at an interface, whether the place is
    /// free or not. Returns the program's id.
    pub fn plant_program(&self, interface: &str, direction: TcAttachType) -> Result<u32> {
        let pin = self.dir().join("bpffs-of-another-owner");
        let what = || format!("attach a program to {interface} of {}", self.name());
        let id = fs::create_dir_all(&pin).and_then(|()| {
            nix::mount::mount(Some("bpf"), &pin, Some("bpf"), nix::mount::MsFlags::empty(), None::<&str>)?;
            let planted = load_and_pin(&pin.join("program")).and_then(|()| {
                let program = pin.join("program");
                self.namespace().run(|| plant(&program, interface, direction).map_err(io::Error::other))
            });
            nix::mount::umount2(&pin, nix::mount::MntFlags::MNT_DETACH)?;
            planted
        });
        id.attempt(what)
    }
}

fn plant(pin: &Path, interface: &str, direction: TcAttachType) -> Result<u32, ProgramError> {
    let mut program = SchedClassifier::from_pin(pin)?;
    // It is there on an interface that the agent has attached to.
    let _ = qdisc_add_clsact(interface);
    let options = NlOptions { priority: PRIORITY, handle: HANDLE, classid: None };
    let link = match program.attach_with_options(interface, direction, TcAttachOptions::Netlink(options)) {
        Ok(link) => link,
        Err(_) => {
            let present = SchedClassifierLink::attached(interface, direction, PRIORITY, HANDLE, None);
            program.attach_to_link(present.map_err(aya::programs::tc::TcError::IoError)?)?
        }
    };
    // A filter stays with its interface.
    std::mem::forget(program.take_link(link)?);
    Ok(program.info()?.id())
}

/// `union bpf_attr` as BPF_OBJ_PIN reads it.
#[repr(C)]
struct PinAttr {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

const BPF_OBJ_PIN: libc::c_long = 6;

/// `r0 = TC_ACT_UNSPEC; exit`: the next filter decides.
const PASS_ON: [u64; 2] = [0xffff_ffff_0000_00b7, 0x95];

fn load_and_pin(path: &Path) -> io::Result<()> {
    let program = load_instructions(FOREIGN_PROGRAM, &PASS_ON)?;
    let path = std::ffi::CString::new(path.to_string_lossy().as_bytes())?;
    let attr = PinAttr { pathname: path.as_ptr() as u64, bpf_fd: program.as_raw_fd() as u32, file_flags: 0 };
    // SAFETY: every address in `attr` is of memory that lives longer than the call.
    match unsafe { libc::syscall(libc::SYS_bpf, BPF_OBJ_PIN, &raw const attr, size_of::<PinAttr>()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
