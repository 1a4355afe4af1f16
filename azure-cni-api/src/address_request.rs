//! What a call requests of the pod's addresses.

use std::net::IpAddr;

/// The default requests nothing: any address of the pool will do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressRequest {
    /// Exactly these addresses; at most one of each family.
    pub addresses: Vec<IpAddr>,
    /// An IPv4 address that has a public address of its own.
    pub public: bool,
}
