//! Our programs at interfaces: whether they run there, and how they get there. The data path attaches programs; netlink
//! reads what holds the place of a filter.
//!
//! The rule: looking writes nothing. And a filter that another owner has put into our place is neither replaced nor
//! removed: our program is not attached then, and the failure names the filter.

use std::sync::{Mutex, PoisonError};

use azure_cni_datapath::{Attachment, Datapath, DatapathError, FilterHolder, Hook};

use crate::net::{NetError, Netlink};

/// The kind of qdisc that has filters for both directions.
const CLSACT: &str = "clsact";

/// Why a program does not run at an interface.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    #[error(transparent)]
    Net(#[from] NetError),
    #[error(transparent)]
    Datapath(#[from] DatapathError),
    #[error(transparent)]
    Foreign(#[from] ForeignFilter),
    /// A retry helps once it was removed.
    #[error(
        "{interface} has a qdisc `{kind}` of another owner, beside which there is none with a place for {}: remove it with `tc qdisc del \
         dev {interface} ingress`, or have its owner make `clsact`, which several can use",
        hook.program()
    )]
    ForeignQdisc { hook: Hook, interface: String, kind: String },
}

/// A filter of another owner in the place of ours. A retry helps once it was removed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{holder} of another owner has the place of {} at {interface}: remove it with `tc filter del dev {interface} {} \
     pref {}{}`",
    hook.program(), direction(*hook), hook.filter_place().priority, selector(*hook, holder)
)]
pub struct ForeignFilter {
    pub hook: Hook,
    pub interface: String,
    pub holder: FilterHolder,
}

/// The filters that the reconciler found at the pods' interfaces in its last round.
#[derive(Debug, Default)]
pub struct ForeignFilters(Mutex<Vec<ForeignFilter>>);

impl ForeignFilters {
    /// Replaces them all; logs those that are new.
    pub fn set(&self, found: Vec<ForeignFilter>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for filter in found.iter().filter(|filter| !known.contains(filter)) {
            tracing::error!("{filter}");
        }
        *known = found;
    }

    pub fn get(&self) -> Vec<ForeignFilter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Which filter of the priority: all of them, if they are no programs.
fn selector(hook: Hook, holder: &FilterHolder) -> String {
    holder.program_id.map_or_else(String::new, |_| format!(" handle {:#x} bpf", hook.filter_place().handle))
}

fn direction(hook: Hook) -> &'static str {
    match hook {
        Hook::FromEndpoint | Hook::FromWire => "ingress",
        Hook::ToEndpoint | Hook::ToWire => "egress",
    }
}

/// An interface by both of its names.
#[derive(Debug, Clone, Copy)]
pub struct Interface<'a> {
    pub name: &'a str,
    pub index: u32,
}

/// How a hook stands at an interface. One exchange with the kernel by netlink, and another one if the program is missing.
pub async fn attachment(
    netlink: &Netlink,
    datapath: &Datapath,
    hook: Hook,
    interface: Interface<'_>,
) -> Result<Attachment, ProgramError> {
    let found = attachment_in_place(netlink, datapath, hook, interface).await?;
    if found == Attachment::Missing && datapath.attaches_by_filter(hook) {
        // A filter of another kind keeps ours out of its place without standing there.
        let holder = netlink.priority_holder(interface.index, hook.filter_place()).await.unwrap_or_default();
        return Ok(holder.filter(|holder| holder.program_id.is_none()).map_or(found, Attachment::Foreign));
    }
    Ok(found)
}

async fn attachment_in_place(
    netlink: &Netlink,
    datapath: &Datapath,
    hook: Hook,
    interface: Interface<'_>,
) -> Result<Attachment, ProgramError> {
    let holder = if datapath.attaches_by_filter(hook) {
        netlink.filter_holder(interface.index, hook.filter_place()).await?
    } else {
        None
    };
    Ok(datapath.attachment(hook, interface.name, holder)?)
}

/// Makes the program that is loaded now run at an interface: attaches it, or replaces one of an earlier agent.
pub async fn ensure_attached(
    netlink: &Netlink,
    datapath: &Datapath,
    hook: Hook,
    interface: Interface<'_>,
) -> Result<(), ProgramError> {
    match attachment_in_place(netlink, datapath, hook, interface).await? {
        Attachment::Current => {}
        Attachment::Missing => attach(netlink, datapath, hook, interface).await?,
        Attachment::Outdated => datapath.replace(hook, interface.name)?,
        Attachment::Foreign(holder) => {
            return Err(ForeignFilter { hook, interface: interface.name.to_owned(), holder }.into());
        }
    }
    Ok(())
}

/// Names what has the place if the kernel says that it is taken, as by a filter of another kind.
async fn attach(
    netlink: &Netlink,
    datapath: &Datapath,
    hook: Hook,
    interface: Interface<'_>,
) -> Result<(), ProgramError> {
    if datapath.attaches_by_filter(hook)
        && let Some(kind) = netlink.ingress_qdisc(interface.index).await?
        && kind != CLSACT
    {
        return Err(ProgramError::ForeignQdisc { hook, interface: interface.name.to_owned(), kind });
    }
    let error = match datapath.attach(hook, interface.name) {
        Err(error @ DatapathError::Occupied { .. }) => error,
        other => return Ok(other?),
    };
    match netlink.priority_holder(interface.index, hook.filter_place()).await? {
        Some(holder) => Err(ForeignFilter { hook, interface: interface.name.to_owned(), holder }.into()),
        None => Err(error.into()),
    }
}

/// What an agent does at its start for an interface that stands: [`ensure_attached`], and removes what an agent in the
/// other mode of attachment has left.
pub async fn take_over(
    netlink: &Netlink,
    datapath: &Datapath,
    hook: Hook,
    interface: Interface<'_>,
) -> Result<(), ProgramError> {
    ensure_attached(netlink, datapath, hook, interface).await?;
    let holder = netlink.filter_holder(interface.index, hook.filter_place()).await?;
    Ok(datapath.remove_other_mode(hook, interface.name, holder.as_ref())?)
}
