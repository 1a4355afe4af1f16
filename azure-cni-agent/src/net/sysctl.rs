//! Settings of the network stack, in the namespace of the calling thread.
//!
//! The agent writes only the settings of its own interfaces. It reads the node's own settings and reports problems.

use std::path::PathBuf;

/// A setting that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub struct SysctlError {
    path: PathBuf,
    source: std::io::Error,
}

impl SysctlError {
    /// The interface or the protocol is not there.
    pub fn is_absent(&self) -> bool {
        self.source.kind() == std::io::ErrorKind::NotFound
    }
}

/// Reads a setting by its parts, e.g. `["net", "ipv4", "conf", "eth0", "rp_filter"]`.
///
/// Parts, because an interface's name may have a dot.
pub fn read(parts: &[&str]) -> Result<String, SysctlError> {
    let path = path(parts);
    std::fs::read_to_string(&path).map(|text| text.trim().to_owned()).map_err(|source| SysctlError { path, source })
}

pub fn write(parts: &[&str], value: &str) -> Result<(), SysctlError> {
    let path = path(parts);
    std::fs::write(&path, value).map_err(|source| SysctlError { path, source })
}

fn path(parts: &[&str]) -> PathBuf {
    let mut path = PathBuf::from("/proc/sys");
    path.extend(parts);
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_and_what_is_missing_is_named() {
        let forwarding = read(&["net", "ipv4", "ip_forward"]).unwrap();
        assert!(forwarding == "0" || forwarding == "1");
        let error = read(&["net", "ipv4", "conf", "no.such", "rp_filter"]).unwrap_err();
        assert!(error.is_absent());
        assert!(error.to_string().contains("no.such"), "{error}");
    }
}
