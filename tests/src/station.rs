//! Whatever has an address on the fabric: what probes start from and what they reach.

use std::net::Ipv4Addr;

use crate::{error::Result, namespace::Namespace, plan::Place};

/// A machine or a pod: a name for messages, an address, and the namespace it lives in.
pub trait Station: Sync {
    /// How messages and tables call it.
    fn name(&self) -> &str;
    /// The address that others reach it by.
    fn address(&self) -> Ipv4Addr;
    /// Where its sockets are.
    fn namespace(&self) -> &Namespace;
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

    fn namespace(&self) -> &Namespace {
        &self.namespace
    }
}
