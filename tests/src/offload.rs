//! Offloads of an interface: read all, switch the checksum's.
//!
//! With offload a veth passes packets whose checksum is not computed yet (`CHECKSUM_PARTIAL`) and segments larger than
//! the MTU; without it every packet is finished. Programs that rewrite packets must be right for both.

use std::{io, os::fd::AsRawFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::{
    error::{Attempt, Result},
    namespace::Namespace,
};

/// `ETHTOOL_GTXCSUM` and `ETHTOOL_STXCSUM` of include/uapi/linux/ethtool.h: get and set transmit checksum offload.
const ETHTOOL_GTXCSUM: u32 = 0x16;
const ETHTOOL_STXCSUM: u32 = 0x17;
/// Queries of the same header, each answering with 0 or 1.
const ETHTOOL_GTSO: u32 = 0x1e;
const ETHTOOL_GGSO: u32 = 0x23;
const ETHTOOL_GGRO: u32 = 0x2b;
/// `SIOCETHTOOL` of include/uapi/linux/sockios.h.
const SIOCETHTOOL: u32 = 0x8946;

/// `struct ethtool_value` of include/uapi/linux/ethtool.h.
#[repr(C)]
struct EthtoolValue {
    cmd: u32,
    data: u32,
}

/// Switches the transmit checksum offload (and with it segmentation offload) of one interface.
pub fn set_checksum_offload(namespace: &Namespace, interface: &str, on: bool) -> Result<()> {
    let set_and_verify = || -> io::Result<()> {
        ethtool(interface, ETHTOOL_STXCSUM, on.into())?;
        // The kernel reports success also where the driver cannot change it.
        let is_on = ethtool(interface, ETHTOOL_GTXCSUM, 0)? != 0;
        if is_on == on { Ok(()) } else { Err(io::ErrorKind::Unsupported.into()) }
    };
    namespace
        .run(set_and_verify)
        .attempt(|| format!("set the checksum offload of {interface} in {} to {on}", namespace.name()))
}

/// What an interface leaves to others, or does for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offloads {
    /// The transmit checksum is left to the receiver.
    pub tx_checksum: bool,
    /// TCP segmentation.
    pub tso: bool,
    /// Generic segmentation.
    pub gso: bool,
    /// Generic receive.
    pub gro: bool,
}

/// Reads the offloads of one interface.
pub fn offloads(namespace: &Namespace, interface: &str) -> Result<Offloads> {
    let read = || -> io::Result<Offloads> {
        let is_on = |query| ethtool(interface, query, 0).map(|value| value != 0);
        Ok(Offloads {
            tx_checksum: is_on(ETHTOOL_GTXCSUM)?,
            tso: is_on(ETHTOOL_GTSO)?,
            gso: is_on(ETHTOOL_GGSO)?,
            gro: is_on(ETHTOOL_GGRO)?,
        })
    };
    namespace.run(read).attempt(|| format!("read the offloads of {interface} in {}", namespace.name()))
}

fn ethtool(interface: &str, cmd: u32, data: u32) -> io::Result<u32> {
    let control = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut value = EthtoolValue { cmd, data };
    let mut ifr_name = [0; libc::IFNAMSIZ];
    if interface.len() >= ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from as libc::c_char;
    }
    let ifr_ifru = libc::__c_anonymous_ifr_ifru { ifru_data: (&raw mut value).cast() };
    let request = libc::ifreq { ifr_name, ifr_ifru };
    // SAFETY: `request` is a whole ifreq with a terminated name, and its data points at an ethtool_value that outlives
    // the call; SIOCETHTOOL with these commands reads both, writes the value, and keeps neither.
    let result = unsafe { libc::ioctl(control.as_raw_fd(), SIOCETHTOOL.into(), &raw const request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(value.data) }
}
