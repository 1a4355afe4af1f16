//! A table of one family, as the kernel gives it.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::AsRawFd;

/// IPT_SO_GET_INFO and IPT_SO_GET_ENTRIES; IPv6's have the same numbers.
const GET_INFO: libc::c_int = 64;
const GET_ENTRIES: libc::c_int = 65;

/// `struct ipt_getinfo`, which is `struct ip6t_getinfo` too.
#[repr(C)]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Info {
    pub name: [u8; 32],
    pub valid_hooks: u32,
    pub hook_entry: [u32; 5],
    pub underflow: [u32; 5],
    pub num_entries: u32,
    pub size: u32,
}

/// How often a table is read that has changed between the two.
const ATTEMPTS: u32 = 20;

/// `struct ipt_get_entries` without the entries.
const ENTRIES_HEADER: usize = 40;

/// One of the two families: where the fields of its entries are (`struct ipt_entry`, `struct ip6t_entry`).
#[derive(Debug)]
pub struct Family {
    names: &'static str,
    pub program: &'static str,
    level: libc::c_int,
    pub is_ipv4: bool,
    /// Behind source, destination and their masks, four names of interfaces and more.
    pub inverted_at: usize,
    /// The offsets of target and next entry, both words of two bytes: behind `struct ipt_ip` or `struct ip6t_ip6`, and a word.
    pub offsets_at: usize,
    pub matches_at: usize,
}

pub const FAMILIES: [Family; 2] = [
    Family {
        names: "/proc/thread-self/net/ip_tables_names",
        program: "iptables-legacy",
        level: libc::SOL_IP,
        is_ipv4: true,
        inverted_at: 83,
        offsets_at: 88,
        matches_at: 112,
    },
    Family {
        names: "/proc/thread-self/net/ip6_tables_names",
        program: "ip6tables-legacy",
        level: libc::SOL_IPV6,
        is_ipv4: false,
        inverted_at: 132,
        offsets_at: 140,
        matches_at: 168,
    },
];

/// A table and its entries. An offset of the info is one of the entries.
#[derive(Debug)]
pub struct Table {
    pub info: Info,
    pub entries: Vec<u8>,
}

/// What changes with most changes of a table.
pub type Mark = Info;

/// Of the tables that translate, and of those that drop.
pub fn marks() -> io::Result<Vec<Mark>> {
    let tables = FAMILIES.iter().flat_map(|family| ["nat", "filter"].map(|table| family.info(table)));
    tables.filter_map(Result::transpose).collect()
}

impl Family {
    /// `None` if the family has no such table. To ask the kernel for one that is not there would make it. An error of the kind
    /// [`io::ErrorKind::Interrupted`]: the table keeps changing.
    pub fn table(&self, name: &str) -> io::Result<Option<Table>> {
        let Some(socket) = self.socket_if_there(name)? else { return Ok(None) };
        until_whole(|| self.table_by(&socket, name)).map(Some)
    }

    fn table_by(&self, socket: &UdpSocket, name: &str) -> io::Result<Table> {
        let info = self.info_by(socket, name)?;
        let mut entries = vec![0_u8; ENTRIES_HEADER + info.size as usize];
        entries[..32].copy_from_slice(&info.name);
        entries[32..36].copy_from_slice(&info.size.to_ne_bytes());
        let mut length = entries.len() as libc::socklen_t;
        let (level, buffer) = (self.level, entries.as_mut_ptr().cast());
        // SAFETY: the buffer has `length` bytes.
        if unsafe { libc::getsockopt(socket.as_raw_fd(), level, GET_ENTRIES, buffer, &raw mut length) } < 0 {
            return Err(io::Error::last_os_error());
        }
        entries.drain(..ENTRIES_HEADER);
        Ok(Table { info, entries })
    }

    fn info(&self, name: &str) -> io::Result<Option<Info>> {
        self.socket_if_there(name)?.map(|socket| self.info_by(&socket, name)).transpose()
    }

    fn socket_if_there(&self, name: &str) -> io::Result<Option<UdpSocket>> {
        let names = match std::fs::read_to_string(self.names) {
            // A kernel without the family's legacy tables.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            names => names?,
        };
        if !names.lines().any(|there| there == name) {
            return Ok(None);
        }
        let socket = if self.is_ipv4 {
            UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
        } else {
            UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))
        };
        socket.map(Some)
    }

    fn info_by(&self, socket: &UdpSocket, name: &str) -> io::Result<Info> {
        let mut info = Info::default();
        info.name[..name.len()].copy_from_slice(name.as_bytes());
        let mut length = size_of::<Info>() as libc::socklen_t;
        // SAFETY: `info` has `length` bytes, all of which are numbers.
        let got = unsafe {
            libc::getsockopt(socket.as_raw_fd(), self.level, GET_INFO, (&raw mut info).cast(), &raw mut length)
        };
        if got < 0 { Err(io::Error::last_os_error()) } else { Ok(info) }
    }
}

/// The kernel refuses the entries of a table whose size is another by now (net/ipv4/netfilter/ip_tables.c, get_entries).
fn until_whole<T>(mut read: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 0..ATTEMPTS {
        match read() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return read,
        }
    }
    Err(io::Error::new(io::ErrorKind::Interrupted, "the rules of the legacy iptables keep changing"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_changes_while_it_is_read_is_read_again_but_not_for_ever() {
        for (changes, expected) in [(0, Ok(7)), (ATTEMPTS - 1, Ok(7)), (u32::MAX, Err(io::ErrorKind::Interrupted))] {
            let mut left = changes;
            let read = until_whole(|| match left {
                0 => Ok(7),
                _ => {
                    left -= 1;
                    Err(io::Error::from_raw_os_error(libc::EAGAIN))
                }
            });
            assert_eq!(read.map_err(|error| error.kind()), expected);
        }
        let other = until_whole(|| Err::<(), _>(io::ErrorKind::PermissionDenied.into()));
        assert_eq!(other.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn the_info_is_as_long_as_the_kernels() {
        assert_eq!(size_of::<Info>(), 84);
    }
}
