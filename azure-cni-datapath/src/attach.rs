//! Programs onto interfaces: by TCX links, or by clsact filters.
//!
//! The rule of order: among those that are attached in the same way, our program is the nearest to the pod or the wire.
//! Programs that others attach to the same interface in the same way see packets as the host's stack does.

use std::collections::BTreeSet;
use std::path::Path;

use aya::programs::links::{FdLink, Link, PinnedLink};
use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle, qdisc_add_clsact};
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType};

use crate::error::DatapathError;
use crate::hook::Hook;
use crate::pins::{Pins, unpin};
use crate::tcx_links;

/// Makes our program the only one of its name that runs at an interface by a link: swaps the program of the link that is pinned,
/// else of one that an agent with another `bpffs_dir` has left, else attaches a new one.
pub(crate) fn attach_tcx(pins: &Pins, hook: Hook, interface: &str) -> Result<(), DatapathError> {
    let failed = |error: &(dyn std::error::Error + 'static)| failure(hook, interface, error);
    let pin = pins.link(hook, interface);
    let mut program = program(pins, hook).map_err(|error| failed(&error))?;
    let own = program.info().map_err(|error| failed(&error))?.id();
    if !swap(&mut program, &pin, hook, interface)? {
        let others = ours_by_tcx(hook, interface)?;
        let adopted = tcx_links::adopt(hook, interface, &others, &pin).map_err(|error| failed(&error))?;
        if !(adopted && swap(&mut program, &pin, hook, interface)?) {
            let options = TcAttachOptions::TcxOrder(order(hook));
            let id =
                program.attach_with_options(interface, direction(hook), options).map_err(|error| failed(&error))?;
            let link = program.take_link(id).map_err(|error| failed(&error))?;
            let link: FdLink = link.try_into().map_err(|error| failed(&error))?;
            link.pin(&pin).map_err(|error| failed(&error))?;
        }
    }
    detach_tcx(hook, interface, Some(own))
}

/// Swaps the program of the pinned link. False, and the pin is gone, if there is none for this very interface.
fn swap(program: &mut SchedClassifier, pin: &Path, hook: Hook, interface: &str) -> Result<bool, DatapathError> {
    let Ok(present) = PinnedLink::from_pin(pin) else { return Ok(false) };
    let link =
        SchedClassifierLink::try_from(FdLink::from(present)).map_err(|error| failure(hook, interface, &error))?;
    // A link whose interface is gone cannot be updated: it belonged to an earlier interface with this name. Nor can one that was
    // detached.
    if program.attach_to_link(link).is_ok() && is_running(program, hook, interface) {
        return Ok(true);
    }
    unpin(pin)?;
    Ok(false)
}

/// Detaches the links of programs of our name, whoever has pinned them, but for the one that runs the program `own`.
pub(crate) fn detach_tcx(hook: Hook, interface: &str, own: Option<u32>) -> Result<(), DatapathError> {
    let mut others = ours_by_tcx(hook, interface)?;
    others.retain(|program| Some(*program) != own);
    if others.is_empty() {
        return Ok(());
    }
    tcx_links::detach(hook, interface, &others).map_err(|error| failure(hook, interface, &error))
}

/// The programs of our name that run at an interface by TCX: this agent's, and those of an agent with another `bpffs_dir`. This
/// reads only (BPF_PROG_QUERY).
pub(crate) fn ours_by_tcx(hook: Hook, interface: &str) -> Result<BTreeSet<u32>, DatapathError> {
    tcx_links::running(hook, interface, direction(hook)).map_err(|error| failure(hook, interface, &error))
}

/// Whether a link that took the program is a link of this very interface.
fn is_running(program: &SchedClassifier, hook: Hook, interface: &str) -> bool {
    let Ok(info) = program.info() else { return false };
    ours_by_tcx(hook, interface).is_ok_and(|running| running.contains(&info.id()))
}

/// Adds a filter. Fails with [`DatapathError::Occupied`] if there is one in its place, and leaves that one alone.
pub(crate) fn add_filter(pins: &Pins, hook: Hook, interface: &str) -> Result<(), DatapathError> {
    match qdisc_add_clsact(interface) {
        // For the second hook of an interface, or by another owner. Check first that it is no other qdisc in that place.
        Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => {}
        Err(error) => {
            let reason = format!("its clsact qdisc cannot be made: {}", text(&error));
            return Err(DatapathError::Attach { hook: hook.program(), interface: interface.to_owned(), reason });
        }
        Ok(()) => {}
    }
    let place = hook.filter_place();
    let options = NlOptions { priority: place.priority, handle: TcHandle::from(place.handle), classid: None };
    let mut program = program(pins, hook).map_err(|error| failure(hook, interface, &error))?;
    match program.attach_with_options(interface, direction(hook), TcAttachOptions::Netlink(options)) {
        Ok(id) => keep(&mut program, id).map_err(|error| failure(hook, interface, &error)),
        Err(error) if says_taken(&error) => {
            Err(DatapathError::Occupied { hook: hook.program(), interface: interface.to_owned() })
        }
        Err(error) => Err(failure(hook, interface, &error)),
    }
}

/// Swaps the program of the filter that is there. Check first that it is ours.
pub(crate) fn replace_filter(pins: &Pins, hook: Hook, interface: &str) -> Result<(), DatapathError> {
    let failed = |error: &(dyn std::error::Error + 'static)| failure(hook, interface, error);
    let mut program = program(pins, hook).map_err(|error| failed(&error))?;
    let filter = filter(hook, interface).map_err(|error| failed(&error))?;
    let id = program.attach_to_link(filter).map_err(|error| failed(&error))?;
    keep(&mut program, id).map_err(|error| failed(&error))
}

/// Removes the filter that is there. Check first that it is ours.
pub(crate) fn remove_filter(hook: Hook, interface: &str) -> Result<(), DatapathError> {
    let filter = filter(hook, interface).map_err(|error| failure(hook, interface, &error))?;
    filter.detach().map_err(|error| failure(hook, interface, &error))
}

fn program(pins: &Pins, hook: Hook) -> Result<SchedClassifier, ProgramError> {
    SchedClassifier::from_pin(pins.program(hook))
}

fn direction(hook: Hook) -> TcAttachType {
    if hook.is_ingress() { TcAttachType::Ingress } else { TcAttachType::Egress }
}

fn order(hook: Hook) -> LinkOrder {
    if hook.is_ingress() { LinkOrder::first() } else { LinkOrder::last() }
}

fn filter(hook: Hook, interface: &str) -> Result<SchedClassifierLink, std::io::Error> {
    let place = hook.filter_place();
    SchedClassifierLink::attached(interface, direction(hook), place.priority, TcHandle::from(place.handle), None)
}

/// A filter belongs to its interface: it outlives the link by which aya would remove it.
fn keep(program: &mut SchedClassifier, id: aya::programs::tc::SchedClassifierLinkId) -> Result<(), ProgramError> {
    std::mem::forget(program.take_link(id)?);
    Ok(())
}

/// The kernel's answer to a new filter in a place that is taken: EEXIST by a filter of the same kind, EINVAL by one of another
/// kind or protocol with our priority (net/sched/cls_api.c, tc_new_tfilter).
fn says_taken(error: &ProgramError) -> bool {
    let (ProgramError::TcError(TcError::NetlinkError(error)) | ProgramError::NetlinkError(error)) = error else {
        return false;
    };
    matches!(error.raw_os_error(), Some(libc::EEXIST | libc::EINVAL))
}

fn failure(hook: Hook, interface: &str, error: &(dyn std::error::Error + 'static)) -> DatapathError {
    DatapathError::Attach { hook: hook.program(), interface: interface.to_owned(), reason: text(error) }
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
