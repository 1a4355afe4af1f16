//! What is done with a call that frees something while no agent is there: it is written down, and has succeeded.

use std::path::PathBuf;

use azure_cni_api::boot_time::{BootTime, boot_id};
use azure_cni_api::cni::{CniError, Invocation};
use azure_cni_api::spool::{DEFAULT_DIR, Folder, SpoolError, SpooledCall, SpooledRequest};

/// The request of a call that frees; `None` for the others, which need an agent.
pub(crate) fn deferrable(invocation: &Invocation) -> Option<SpooledCall> {
    match invocation {
        Invocation::Del(call) => Some(SpooledCall::Del { attachment: call.attachment.clone() }),
        Invocation::Gc(call) => Some(SpooledCall::Gc {
            network: call.network.name.clone(),
            valid_attachments: call.valid_attachments.clone(),
        }),
        Invocation::Add(_) | Invocation::Check(_) | Invocation::Status(_) | Invocation::Version => None,
    }
}

/// The configuration's folder, else the variable's, else the default.
pub(crate) fn dir(invocation: &Invocation) -> PathBuf {
    let from_variable = || std::env::var_os("AZURE_CNI_SPOOL").filter(|path| !path.is_empty()).map(PathBuf::from);
    let from_config = invocation.spool_dir().map(PathBuf::from);
    from_config.or_else(from_variable).unwrap_or_else(|| DEFAULT_DIR.into())
}

/// On the disk when this returns. `why`: what kept the agent from answering.
pub(crate) fn write_down(dir: PathBuf, call: SpooledCall, asked: BootTime, why: &str) -> Result<(), CniError> {
    if !dir.is_absolute() {
        return Err(CniError::invalid_config(format!("spoolDir {} is not an absolute path", dir.display())));
    }
    let kept = || -> Result<(), SpoolError> {
        let boot_id = boot_id().map_err(|source| SpoolError::Io { path: dir.clone(), source })?;
        Folder::open(&dir)?.put(&SpooledRequest { boot_id, asked, call })
    };
    kept().map_err(|error| {
        let details = format!("{why}, and the request could not be kept for it: {error}");
        CniError::try_again("azure-cni-agent does not run, so nothing was freed").with_details(details)
    })
}
