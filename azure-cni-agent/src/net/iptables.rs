//! The legacy iptables' FORWARD policies, by getsockopt (include/uapi/linux/netfilter_ipv4/ip_tables.h, …_ipv6/ip6_tables.h).

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::AsRawFd;

use super::dropping::{Dropping, POD_INTERFACES};

/// IPT_SO_GET_INFO and IPT_SO_GET_ENTRIES; IPv6's have the same numbers.
const GET_INFO: libc::c_int = 64;
const GET_ENTRIES: libc::c_int = 65;
/// NF_INET_FORWARD.
const FORWARD: usize = 2;
/// The verdict of a policy: `-NF_DROP - 1`.
const DROP: i32 = -1;
/// `struct xt_entry_target`, before the verdict.
const TARGET_HEADER: usize = 32;

/// `struct ipt_getinfo`, which is `struct ip6t_getinfo` too.
#[repr(C)]
#[derive(Default)]
struct Info {
    name: [u8; 32],
    valid_hooks: u32,
    hook_entry: [u32; 5],
    underflow: [u32; 5],
    num_entries: u32,
    size: u32,
}

/// `struct ipt_get_entries` without the entries.
const ENTRIES_HEADER: usize = 40;

/// One of the two families.
struct Family {
    names: &'static str,
    program: &'static str,
    level: libc::c_int,
    /// Where an entry says where its target is: behind `struct ipt_ip` or `struct ip6t_ip6`, and a word.
    target_offset: usize,
    is_ipv4: bool,
}

const FAMILIES: [Family; 2] = [
    Family {
        names: "/proc/thread-self/net/ip_tables_names",
        program: "iptables-legacy",
        level: libc::SOL_IP,
        target_offset: 88,
        is_ipv4: true,
    },
    Family {
        names: "/proc/thread-self/net/ip6_tables_names",
        program: "ip6tables-legacy",
        level: libc::SOL_IPV6,
        target_offset: 140,
        is_ipv4: false,
    },
];

pub(super) fn dropping_tables() -> io::Result<Vec<Dropping>> {
    let mut found = Vec::new();
    for family in FAMILIES {
        // To ask for a table that is not there would make it.
        let names = std::fs::read_to_string(family.names).unwrap_or_default();
        if names.lines().any(|name| name == "filter") {
            found.extend(dropping(&family)?);
        }
    }
    Ok(found)
}

fn dropping(family: &Family) -> io::Result<Option<Dropping>> {
    let socket = if family.is_ipv4 {
        UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
    } else {
        UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))
    }?;
    let mut info = Info::default();
    info.name[..6].copy_from_slice(b"filter");
    let mut length = size_of::<Info>() as libc::socklen_t;
    // SAFETY: `info` has `length` bytes, all of which are numbers.
    let got = unsafe {
        libc::getsockopt(socket.as_raw_fd(), family.level, GET_INFO, (&raw mut info).cast(), &raw mut length)
    };
    if got < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut entries = vec![0_u8; ENTRIES_HEADER + info.size as usize];
    entries[..32].copy_from_slice(&info.name);
    entries[32..36].copy_from_slice(&info.size.to_ne_bytes());
    let mut length = entries.len() as libc::socklen_t;
    let (level, buffer) = (family.level, entries.as_mut_ptr().cast());
    // SAFETY: the buffer has `length` bytes.
    if unsafe { libc::getsockopt(socket.as_raw_fd(), level, GET_ENTRIES, buffer, &raw mut length) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let entries = &entries[ENTRIES_HEADER..];
    let drops = policy(entries, info.underflow[FORWARD] as usize, family.target_offset) == Some(DROP);
    Ok(drops.then(|| Dropping {
        chain: format!("FORWARD of {}", family.program),
        ipv4: family.is_ipv4,
        ipv6: !family.is_ipv4,
        names_pods: entries.windows(POD_INTERFACES.len()).any(|bytes| bytes == POD_INTERFACES),
    }))
}

/// The verdict of the entry at `underflow`, the last one of its chain.
fn policy(entries: &[u8], underflow: usize, target_offset: usize) -> Option<i32> {
    let entry = entries.get(underflow..)?;
    let target = usize::from(u16::from_ne_bytes(entry.get(target_offset..)?.get(..2)?.try_into().ok()?));
    let verdict = entry.get(target + TARGET_HEADER..)?.get(..4)?;
    Some(i32::from_ne_bytes(verdict.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_read_where_the_entry_says() {
        let mut entries = vec![0_u8; 300];
        entries[100 + 88..][..2].copy_from_slice(&112_u16.to_ne_bytes());
        entries[100 + 112 + TARGET_HEADER..][..4].copy_from_slice(&DROP.to_ne_bytes());
        assert_eq!(policy(&entries, 100, 88), Some(DROP));
        assert_eq!(policy(&entries, 290, 88), None, "cut short");
        assert_eq!(size_of::<Info>(), 84);
    }
}
