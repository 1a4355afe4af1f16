//! Programs onto interfaces: by TCX links, or by clsact filters; which of them where is said by [`AttachModes`].
//!
//! The rule of order: among those that are attached in the same way, our program is the one nearest to the pod or the wire.
//! What others attach so to the same interface sees packets as the host's stack does.

use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle, qdisc_add_clsact};
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType};
use aya::util::KernelVersion;

use super::{DatapathError, Pins, unpin};

/// The programs by where they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    FromEndpoint,
    ToEndpoint,
    FromWire,
    ToWire,
}

impl Hook {
    pub const ALL: [Hook; 4] = [Hook::FromEndpoint, Hook::ToEndpoint, Hook::FromWire, Hook::ToWire];
    /// On the host veth of every pod.
    pub const ENDPOINT: [Hook; 2] = [Hook::FromEndpoint, Hook::ToEndpoint];
    /// On the NIC.
    pub const UPLINK: [Hook; 2] = [Hook::FromWire, Hook::ToWire];

    /// Name of the program in the object, of its pin, and in `bpftool prog`.
    pub const fn program(self) -> &'static str {
        match self {
            Hook::FromEndpoint => "from_endpoint",
            Hook::ToEndpoint => "to_endpoint",
            Hook::FromWire => "from_wire",
            Hook::ToWire => "to_wire",
        }
    }

    const fn direction(self) -> TcAttachType {
        match self {
            Hook::FromEndpoint | Hook::FromWire => TcAttachType::Ingress,
            Hook::ToEndpoint | Hook::ToWire => TcAttachType::Egress,
        }
    }

    fn order(self) -> LinkOrder {
        match self {
            Hook::FromEndpoint | Hook::FromWire => LinkOrder::first(),
            Hook::ToEndpoint | Hook::ToWire => LinkOrder::last(),
        }
    }
}

/// How programs are attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttachMode {
    Tcx,
    Clsact,
}

impl AttachMode {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }
}

/// How programs are attached, by where they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttachModes {
    pub uplink: AttachMode,
    pub endpoints: AttachMode,
}

impl AttachModes {
    pub const TCX: Self = Self { uplink: AttachMode::Tcx, endpoints: AttachMode::Tcx };
    pub const CLSACT: Self = Self { uplink: AttachMode::Clsact, endpoints: AttachMode::Clsact };

    /// TCX for the uplink, where the kernel has it, and clsact for pods: under the lock of all interfaces, attaching by TCX
    /// waits for every processor twice (kernel/bpf/tcx.c, tcx_entry_sync), which makes a pod's start six times as long.
    pub fn detect() -> Self {
        let has_tcx = KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(6, 6, 0));
        Self { uplink: if has_tcx { AttachMode::Tcx } else { AttachMode::Clsact }, endpoints: AttachMode::Clsact }
    }

    const fn of(self, hook: Hook) -> AttachMode {
        match hook {
            Hook::FromEndpoint | Hook::ToEndpoint => self.endpoints,
            Hook::FromWire | Hook::ToWire => self.uplink,
        }
    }
}

/// Priority and handle of our clsact filters: constant, so that an attachment can be replaced and found again.
const FILTER_PRIORITY: u16 = 1;
const FILTER_HANDLE: TcHandle = TcHandle::new(0, 0xac1);

pub(super) fn attach(pins: &Pins, modes: AttachModes, hook: Hook, interface: &str) -> Result<(), DatapathError> {
    let mode = modes.of(hook);
    let attached = match mode {
        AttachMode::Tcx => attach_tcx(pins, hook, interface),
        AttachMode::Clsact => attach_clsact(pins, hook, interface),
    };
    attached.map_err(|reason| DatapathError::Attach {
        hook: hook.program(),
        interface: interface.to_owned(),
        reason,
    })?;
    // What an agent in the other mode has left would run the packet a second time.
    match mode {
        AttachMode::Tcx => {
            let _ = detach_clsact(hook, interface);
        }
        AttachMode::Clsact => unpin(&pins.link(hook, interface))?,
    }
    Ok(())
}

pub(super) fn detach(pins: &Pins, hook: Hook, interface: &str) -> Result<(), DatapathError> {
    unpin(&pins.link(hook, interface))?;
    let _ = detach_clsact(hook, interface);
    Ok(())
}

pub(super) fn is_attached(pins: &Pins, modes: AttachModes, hook: Hook, interface: &str) -> Result<bool, DatapathError> {
    let failed =
        |reason: String| DatapathError::Attach { hook: hook.program(), interface: interface.to_owned(), reason };
    if modes.of(hook) == AttachMode::Clsact {
        return Ok(replace_clsact(pins, hook, interface).is_ok());
    }
    let wanted = program(pins, hook).and_then(|program| program.info()).map_err(|error| failed(text(&error)))?;
    let (_, running) = SchedClassifier::query_tcx(interface, hook.direction()).map_err(|error| failed(text(&error)))?;
    Ok(running.iter().any(|program| program.id() == wanted.id()))
}

fn program(pins: &Pins, hook: Hook) -> Result<SchedClassifier, ProgramError> {
    SchedClassifier::from_pin(pins.program(hook))
}

fn attach_tcx(pins: &Pins, hook: Hook, interface: &str) -> Result<(), String> {
    let pin = pins.link(hook, interface);
    let mut program = program(pins, hook).map_err(|error| text(&error))?;
    if let Ok(present) = PinnedLink::from_pin(&pin) {
        let link = SchedClassifierLink::try_from(FdLink::from(present)).map_err(|error| text(&error))?;
        // A link whose interface is gone cannot be updated: it belonged to an earlier interface of the same name.
        if program.attach_to_link(link).is_ok() && is_running(&program, hook, interface) {
            return Ok(());
        }
        unpin(&pin).map_err(|error| text(&error))?;
    }
    let options = TcAttachOptions::TcxOrder(hook.order());
    let id = program.attach_with_options(interface, hook.direction(), options).map_err(|error| text(&error))?;
    let link: FdLink = program.take_link(id).map_err(|error| text(&error))?.try_into().map_err(|error| text(&error))?;
    link.pin(&pin).map_err(|error| text(&error))?;
    Ok(())
}

/// Whether a link that took the program is a link of this very interface.
fn is_running(program: &SchedClassifier, hook: Hook, interface: &str) -> bool {
    let Ok(info) = program.info() else { return false };
    SchedClassifier::query_tcx(interface, hook.direction())
        .is_ok_and(|(_, running)| running.iter().any(|other| other.id() == info.id()))
}

fn attach_clsact(pins: &Pins, hook: Hook, interface: &str) -> Result<(), String> {
    // "Exists" is the usual answer for the second hook of an interface; any other error shows when the filter is added.
    let _ = qdisc_add_clsact(interface);
    // A pod's interface is new most often: only if it is not, there is a filter to replace.
    add_clsact(pins, hook, interface).or_else(|refused| replace_clsact(pins, hook, interface).map_err(|_| refused))
}

/// Fails if there is a filter of ours.
fn add_clsact(pins: &Pins, hook: Hook, interface: &str) -> Result<(), String> {
    let options = NlOptions { priority: FILTER_PRIORITY, handle: FILTER_HANDLE, classid: None };
    let mut program = program(pins, hook).map_err(|error| text(&error))?;
    let id = program
        .attach_with_options(interface, hook.direction(), TcAttachOptions::Netlink(options))
        .map_err(|error| text(&error))?;
    keep(program.take_link(id).map_err(|error| text(&error))?);
    Ok(())
}

/// Swaps the program of a filter that is there.
fn replace_clsact(pins: &Pins, hook: Hook, interface: &str) -> Result<(), String> {
    let mut program = program(pins, hook).map_err(|error| text(&error))?;
    let filter = clsact_filter(hook, interface).map_err(|error| error.to_string())?;
    let id = program.attach_to_link(filter).map_err(|error| text(&error))?;
    keep(program.take_link(id).map_err(|error| text(&error))?);
    Ok(())
}

fn detach_clsact(hook: Hook, interface: &str) -> Result<(), ProgramError> {
    let filter = clsact_filter(hook, interface).map_err(aya::programs::tc::TcError::IoError)?;
    aya::programs::links::Link::detach(filter)
}

fn clsact_filter(hook: Hook, interface: &str) -> Result<SchedClassifierLink, std::io::Error> {
    SchedClassifierLink::attached(interface, hook.direction(), FILTER_PRIORITY, FILTER_HANDLE, None)
}

/// A filter outlives the handle that made it: it belongs to the interface.
fn keep(link: SchedClassifierLink) {
    std::mem::forget(link);
}

/// The error with its causes, on one line.
fn text(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
