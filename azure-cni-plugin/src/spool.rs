//! DEL and GC without an agent: the plugin writes them to the spool, and the call succeeds.

use std::path::PathBuf;

use azure_cni_api::boot_time::{BootTime, boot_id};
use azure_cni_api::cni::{CniError, Invocation};
use azure_cni_api::spool::{DEFAULT_DIR, Folder, SpoolError, SpooledCall, SpooledRequest};

/// The request to spool for a DEL or GC; `None` for the other commands, which need an agent.
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

/// The folder of the configuration, else of the variable, else the default.
pub(crate) fn dir(invocation: &Invocation) -> PathBuf {
    let from_variable = || std::env::var_os("AZURE_CNI_SPOOL").filter(|path| !path.is_empty()).map(PathBuf::from);
    let from_config = invocation.spool_dir().map(PathBuf::from);
    from_config.or_else(from_variable).unwrap_or_else(|| DEFAULT_DIR.into())
}

/// Writes a request to the spool. It is on the disk when this returns. `why`: the reason why the agent did not answer.
pub(crate) fn put(dir: PathBuf, call: SpooledCall, requested_at: BootTime, why: &str) -> Result<(), CniError> {
    if !dir.is_absolute() {
        return Err(CniError::invalid_config(format!("spoolDir {} is not an absolute path", dir.display())));
    }
    let write = || -> Result<(), SpoolError> {
        let boot_id = boot_id().map_err(|source| SpoolError::Io { path: dir.clone(), source })?;
        Folder::open(&dir)?.put(&SpooledRequest { boot_id, requested_at, call })
    };
    write().map_err(|error| {
        let details = format!("{why}, and the request could not be spooled: {error}");
        CniError::try_again("azure-cni-agent does not run, so nothing was freed").with_details(details)
    })
}
