//! nftables' base chains at the FORWARD hook, by nfnetlink (include/uapi/linux/netfilter/nf_tables.h). Reads only.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto, setsockopt, socket,
    sockopt::ReceiveTimeout,
};
use nix::sys::time::TimeVal;

use super::dropping::{Dropping, POD_INTERFACES};

const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFT_MSG_GETCHAIN: u16 = 4;
const NFT_MSG_GETRULE: u16 = 7;

const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_POLICY: u16 = 5;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_RULE_TABLE: u16 = 1;

/// include/uapi/linux/netfilter.h.
const NF_INET_FORWARD: u32 = 2;
const NF_DROP: u32 = 0;

const NFPROTO_INET: u8 = 1;
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;

/// include/uapi/linux/netlink.h.
const NLM_F_REQUEST_DUMP: u16 = 0x301;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLA_TYPE_MASK: u16 = 0x3fff;
/// `struct nlmsghdr`, and `struct nfgenmsg` behind it.
const HEADER: usize = 16;
const GENERIC: usize = 4;

/// Empty on a kernel without nftables.
pub(super) fn dropping_chains() -> io::Result<Vec<Dropping>> {
    let Some(socket) = open()? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for (family, name, ipv4, ipv6) in
        [(NFPROTO_IPV4, "ip", true, false), (NFPROTO_IPV6, "ip6", false, true), (NFPROTO_INET, "inet", true, true)]
    {
        let mut chains = Vec::new();
        dump(&socket, NFT_MSG_GETCHAIN, family, |attributes| chains.extend(dropping_chain(attributes)))?;
        for (table, chain) in chains {
            let mut names_pods = false;
            dump(&socket, NFT_MSG_GETRULE, family, |rule| names_pods |= names_pods_in(rule, &table))?;
            let (table, chain) =
                (String::from_utf8_lossy(&table).into_owned(), String::from_utf8_lossy(&chain).into_owned());
            found.push(Dropping { chain: format!("nftables chain {name} {table} {chain}"), ipv4, ipv6, names_pods });
        }
    }
    Ok(found)
}

/// Table and name of a base chain at the FORWARD hook whose policy is to drop.
fn dropping_chain(attributes: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let of = |kind| Attributes(attributes).find(|(found, _)| *found == kind).map(|(_, value)| value);
    let hook = Attributes(of(NFTA_CHAIN_HOOK)?).find(|(kind, _)| *kind == NFTA_HOOK_HOOKNUM)?.1;
    let drops = number(hook)? == NF_INET_FORWARD && number(of(NFTA_CHAIN_POLICY)?)? == NF_DROP;
    drops.then_some((text(of(NFTA_CHAIN_TABLE)?), text(of(NFTA_CHAIN_NAME)?)))
}

/// Whether a rule of the table compares something with pods' interfaces.
fn names_pods_in(rule: &[u8], table: &[u8]) -> bool {
    let of_table = Attributes(rule).any(|(kind, value)| kind == NFTA_RULE_TABLE && text(value) == table);
    of_table && rule.windows(POD_INTERFACES.len()).any(|bytes| bytes == POD_INTERFACES)
}

fn open() -> io::Result<Option<OwnedFd>> {
    let made = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkNetFilter);
    let socket = match made {
        Err(nix::errno::Errno::EPROTONOSUPPORT) => return Ok(None),
        made => made?,
    };
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    // The kernel answers at once, or not at all.
    setsockopt(&socket, ReceiveTimeout, &TimeVal::new(2, 0))?;
    Ok(Some(socket))
}

/// Calls `visit` with the attributes of each object. A kernel without nftables has none.
fn dump(socket: &OwnedFd, message: u16, family: u8, mut visit: impl FnMut(&[u8])) -> io::Result<()> {
    let mut request = [0_u8; HEADER + GENERIC];
    request[0..4].copy_from_slice(&((HEADER + GENERIC) as u32).to_ne_bytes());
    request[4..6].copy_from_slice(&(NFNL_SUBSYS_NFTABLES << 8 | message).to_ne_bytes());
    request[6..8].copy_from_slice(&NLM_F_REQUEST_DUMP.to_ne_bytes());
    request[HEADER] = family;
    sendto(socket.as_raw_fd(), &request, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    // The kernel fills at most 32 KiB at once (net/netlink/af_netlink.c, netlink_dump).
    let mut buffer = vec![0_u8; 64 << 10];
    loop {
        let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let mut rest = &buffer[..length];
        while let Some((kind, payload, next)) = next_message(rest) {
            match kind {
                NLMSG_DONE => return Ok(()),
                NLMSG_ERROR => {
                    let code = payload.get(..4).and_then(number_of_host).unwrap_or_default();
                    return match -code {
                        libc::EOPNOTSUPP | libc::EINVAL | libc::ENOENT | 0 => Ok(()),
                        code => Err(io::Error::from_raw_os_error(code)),
                    };
                }
                _ => visit(payload.get(GENERIC..).unwrap_or_default()),
            }
            rest = next;
        }
    }
}

/// Kind, payload, and what comes after the message.
fn next_message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(bytes.get(0..4)?.try_into().ok()?) as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let payload = bytes.get(HEADER..length)?;
    Some((kind, payload, bytes.get(aligned(length)..).unwrap_or_default()))
}

/// The attributes of a message or of another attribute, by kind (`struct nlattr`).
struct Attributes<'a>(&'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16::from_ne_bytes(self.0.get(0..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(self.0.get(2..4)?.try_into().ok()?) & NLA_TYPE_MASK;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(aligned(length)..).unwrap_or_default();
        Some((kind, value))
    }
}

const fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

/// nftables' numbers are in network byte order.
fn number(value: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(value.try_into().ok()?))
}

fn number_of_host(value: &[u8]) -> Option<i32> {
    Some(i32::from_ne_bytes(value.try_into().ok()?))
}

fn text(value: &[u8]) -> Vec<u8> {
    value.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = (4 + value.len() as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(aligned(bytes.len()), 0);
        bytes
    }

    fn chain(hook: u32, policy: u32) -> Vec<u8> {
        const NESTED: u16 = 0x8000;
        let hook = attribute(NFTA_HOOK_HOOKNUM, &hook.to_be_bytes());
        [
            attribute(NFTA_CHAIN_TABLE, b"filter\0"),
            attribute(NFTA_CHAIN_NAME, b"FORWARD\0"),
            attribute(NFTA_CHAIN_HOOK | NESTED, &hook),
            attribute(NFTA_CHAIN_POLICY, &policy.to_be_bytes()),
        ]
        .concat()
    }

    #[test]
    fn only_a_chain_that_drops_what_is_forwarded_counts() {
        let wanted = (b"filter".to_vec(), b"FORWARD".to_vec());
        assert_eq!(dropping_chain(&chain(NF_INET_FORWARD, NF_DROP)), Some(wanted));
        assert_eq!(dropping_chain(&chain(NF_INET_FORWARD, 1)), None);
        assert_eq!(dropping_chain(&chain(1, NF_DROP)), None);
        assert_eq!(dropping_chain(&attribute(NFTA_CHAIN_NAME, b"KUBE-FORWARD\0")), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = dropping_chain(&bytes);
            let _ = names_pods_in(&bytes, b"filter");
            let _ = next_message(&bytes);
        }
    }
}
