//! Why a configuration was refused. A retry alone never helps: the operator has to change the file or the machine.

use std::path::PathBuf;

use super::ports::PortRange;

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read. A retry helps only once the file is there and readable.
    #[error("cannot read the configuration {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    /// Not TOML, an unknown key, or a value that its key cannot have. A retry does not help.
    #[error("{}, line {line}, column {column}: {message}, in `{text}`", path.display())]
    Invalid { path: PathBuf, line: usize, column: usize, message: String, text: String },
    /// A path whose meaning depends on the directory that the agent was started in. A retry does not help.
    #[error("{key} must be an absolute path, not {path:?}")]
    RelativePath { key: &'static str, path: PathBuf },
    /// No socket can have a path of this length. A retry does not help.
    #[error("socket path {path:?} is {length} bytes long, and the kernel takes {max} at most; choose a shorter one")]
    SocketPathTooLong { path: PathBuf, length: usize, max: usize },
    /// A number that its key cannot have. A retry does not help.
    #[error("{key} = {value} is out of range: {min} to {max}")]
    OutOfRange { key: &'static str, value: u64, min: u64, max: u64 },
    /// A flow in an earlier or closing state would be remembered for longer than an open one. A retry does not help.
    #[error("{} = {} is longer than {} = {}; make it shorter or equal", shorter.0, shorter.1, longer.0, longer.1)]
    TimeoutsContradict { shorter: (&'static str, u32), longer: (&'static str, u32) },
    /// Translated flows would take ports that services of the node listen on. A retry does not help.
    #[error(
        "snat.port_range {port_range} and snat.node_ports {node_ports} both hold {common}; \
         give translated flows ports that no NodePort service uses"
    )]
    NodePortsOverlap { port_range: PortRange, node_ports: PortRange, common: PortRange },
    /// Translated flows would take ports that the host's own sockets use. A retry helps only once the sysctl or the
    /// range is changed.
    #[error(
        "snat.port_range {port_range} and the host's net.ipv4.ip_local_port_range {ephemeral} both hold {common}; \
         change either, or a pod's flow and a socket of the host will collide"
    )]
    EphemeralPortsOverlap { port_range: PortRange, ephemeral: PortRange, common: PortRange },
}
