//! A station has an address on the fabric: probes go from one station to another.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{error::Result, namespace::Namespace, plan::Place};

/// The version of IP that a packet has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum IpVersion {
    /// RFC 791.
    V4,
    /// RFC 8200.
    V6,
}

impl IpVersion {
    /// That of an address.
    pub fn of(address: impl Into<IpAddr>) -> Self {
        if address.into().is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// A machine or a pod: a name for messages, its addresses, and the namespace it lives in.
pub trait Station: Sync {
    /// How messages and tables call it.
    fn name(&self) -> &str;
    /// The IPv4 address that others reach it by.
    fn address(&self) -> Ipv4Addr;
    /// The IPv6 address, on a dual-stack network.
    fn address6(&self) -> Option<Ipv6Addr> {
        None
    }
    /// Where its sockets are.
    fn namespace(&self) -> &Namespace;

    /// The address of either version, for a test that is about both.
    ///
    /// # Panics
    /// If the station has none: the test forgot `dual_stack()`.
    fn ip(&self, version: IpVersion) -> IpAddr {
        match version {
            IpVersion::V4 => self.address().into(),
            IpVersion::V6 => self.address6().unwrap_or_else(|| panic!("{} has no IPv6 address", self.name())).into(),
        }
    }
}

/// A machine of the fabric.
#[derive(Debug)]
pub struct Host {
    place: Place,
    namespace: Namespace,
}

impl Host {
    /// Gives the machine of a place its namespace, with nothing attached.
    pub(crate) fn unattached(place: Place) -> Result<Self> {
        let namespace = Namespace::create(&place.name)?;
        Ok(Self { place, namespace })
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }
}

impl Station for Host {
    fn name(&self) -> &str {
        &self.place.name
    }

    fn address(&self) -> Ipv4Addr {
        self.place.address
    }

    fn address6(&self) -> Option<Ipv6Addr> {
        self.place.v6.as_ref().map(|v6| v6.address)
    }

    fn namespace(&self) -> &Namespace {
        &self.namespace
    }
}
