//! What a call asks of the address that it gets.

use std::net::IpAddr;

/// The default asks for nothing: any address of the pool will do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressRequest {
    /// These and no others; one of each family at most.
    pub addresses: Vec<IpAddr>,
    /// An IPv4 address that has a public address of its own.
    pub public: bool,
}
