//! What there is a rule for.

use std::net::{IpAddr, SocketAddr};

/// A service of the cluster, for TCP and UDP alike.
#[derive(Debug, Clone)]
pub struct Service {
    /// Unique among the services of a node.
    pub name: &'static str,
    /// The cluster IP and port.
    pub address: SocketAddr,
    /// Addresses of load balancers and `externalIPs`, with the same port (`externalTrafficPolicy: Cluster`).
    pub external: Vec<IpAddr>,
    /// Its backends.
    pub backends: Vec<SocketAddr>,
    /// The port of every node that leads there too, for any client (`externalTrafficPolicy: Cluster`).
    pub node_port: Option<u16>,
}
