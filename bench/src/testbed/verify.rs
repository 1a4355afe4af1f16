//! Before anything is measured each path proves that it is what it says.

use anyhow::{Result, ensure};
use azure_cni_tests::probe::{self, EchoServer};

use crate::path::Path;

/// Makes the settings that all paths share. Then the path has to carry TCP, and the far end has to see the source address that the
/// path promises.
pub(super) fn verify(path: &Path) -> Result<()> {
    // A refused SYN is an error after three seconds instead of two minutes.
    path.from.namespace().sysctl("net/ipv4/tcp_syn_retries", "1")?;
    let echo = EchoServer::start(path.to)?;
    let seen = probe::tcp(path.from, echo.address())?.source_seen.ip();
    if let Some(promised) = path.promised {
        ensure!(seen == promised, "the far end sees {seen} instead of {promised}");
    }
    Ok(())
}
