//! The exchange with nf_tables by nfnetlink: dumps, attributes and numbers (include/uapi/linux/netfilter/nf_tables.h). Reads only.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto, setsockopt, socket,
    sockopt::ReceiveTimeout,
};
use nix::sys::time::TimeVal;

const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFT_MSG_GETGEN: u16 = 16;
const NFTA_GEN_ID: u16 = 1;

pub(super) const NFPROTO_INET: u8 = 1;
pub(super) const NFPROTO_IPV4: u8 = 2;
pub(super) const NFPROTO_IPV6: u8 = 10;

/// include/uapi/linux/netlink.h.
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLA_TYPE_MASK: u16 = 0x3fff;
/// `struct nlmsghdr`, and `struct nfgenmsg` behind it.
const HEADER: usize = 16;
const GENERIC: usize = 4;

/// A socket of the calling thread's namespace.
pub(super) struct Nfnetlink {
    socket: OwnedFd,
    /// The kernel fills at most 32 KiB at once (net/netlink/af_netlink.c, netlink_dump).
    buffer: Vec<u8>,
}

impl Nfnetlink {
    /// `None` on a kernel without netfilter's netlink.
    pub(super) fn open() -> io::Result<Option<Self>> {
        let made =
            socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkNetFilter);
        let socket = match made {
            Err(nix::errno::Errno::EPROTONOSUPPORT) => return Ok(None),
            made => made?,
        };
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        // The kernel answers at once, or not at all.
        setsockopt(&socket, ReceiveTimeout, &TimeVal::new(2, 0))?;
        Ok(Some(Self { socket, buffer: vec![0; 64 << 10] }))
    }

    /// The number of the rules' last change; `None` on a kernel without nftables.
    pub(super) fn generation(&mut self) -> io::Result<Option<u32>> {
        let mut generation = None;
        self.request(NFT_MSG_GETGEN, 0, 0, &[])?;
        let answered = self.receive(true, |attributes| generation = find(attributes, NFTA_GEN_ID).and_then(number))?;
        Ok(generation.filter(|_| answered))
    }

    /// Calls `visit` with the attributes of each object that the kernel holds. False on a kernel without nftables. An error of the
    /// kind [`io::ErrorKind::Interrupted`]: the objects changed meanwhile, and a retry helps.
    pub(super) fn dump(
        &mut self,
        message: u16,
        family: u8,
        narrowed: &[u8],
        visit: impl FnMut(&[u8]),
    ) -> io::Result<bool> {
        self.request(message, NLM_F_DUMP, family, narrowed)?;
        self.receive(false, visit)
    }

    fn request(&mut self, message: u16, flags: u16, family: u8, attributes: &[u8]) -> io::Result<()> {
        let length = HEADER + GENERIC + attributes.len();
        let mut request = vec![0_u8; HEADER + GENERIC];
        request[0..4].copy_from_slice(&(length as u32).to_ne_bytes());
        request[4..6].copy_from_slice(&(NFNL_SUBSYS_NFTABLES << 8 | message).to_ne_bytes());
        request[6..8].copy_from_slice(&(NLM_F_REQUEST | flags).to_ne_bytes());
        request[HEADER] = family;
        request.extend_from_slice(attributes);
        sendto(self.socket.as_raw_fd(), &request, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
        Ok(())
    }

    /// Up to the end of a dump, or one message.
    fn receive(&mut self, one: bool, mut visit: impl FnMut(&[u8])) -> io::Result<bool> {
        let mut torn = false;
        loop {
            let length = recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty())?;
            let mut rest = &self.buffer[..length];
            while let Some(message) = next_message(rest) {
                torn |= message.flags & NLM_F_DUMP_INTR != 0;
                match message.kind {
                    NLMSG_DONE if torn => return Err(io::ErrorKind::Interrupted.into()),
                    NLMSG_DONE => return Ok(true),
                    NLMSG_ERROR => return error(message.payload),
                    _ => visit(message.payload.get(GENERIC..).unwrap_or_default()),
                }
                rest = message.rest;
                if one {
                    return Ok(true);
                }
            }
        }
    }
}

/// What an error message says. A kernel without nftables refuses to understand.
fn error(payload: &[u8]) -> io::Result<bool> {
    let code = payload.first_chunk().map(|code| i32::from_ne_bytes(*code)).unwrap_or_default();
    match -code {
        0 => Ok(true),
        libc::EOPNOTSUPP | libc::EINVAL => Ok(false),
        // What was named has gone since.
        libc::ENOENT | libc::EINTR | libc::EAGAIN => Err(io::ErrorKind::Interrupted.into()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

pub(super) struct Message<'a> {
    kind: u16,
    flags: u16,
    payload: &'a [u8],
    rest: &'a [u8],
}

pub(super) fn next_message(bytes: &[u8]) -> Option<Message<'_>> {
    let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
    let word = |at: usize| Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
    let payload = bytes.get(HEADER..length)?;
    Some(Message { kind: word(4)?, flags: word(6)?, payload, rest: bytes.get(aligned(length)..).unwrap_or_default() })
}

/// The attributes of a message or of another attribute, by kind (`struct nlattr`).
pub(super) struct Attributes<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16::from_ne_bytes(*self.0.first_chunk()?));
        let kind = u16::from_ne_bytes(*self.0.get(2..)?.first_chunk()?) & NLA_TYPE_MASK;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(aligned(length)..).unwrap_or_default();
        Some((kind, value))
    }
}

/// The first attribute of a kind.
pub(super) fn find(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    Attributes(attributes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// An attribute as it stands in a message.
pub(super) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = (4 + value.len() as u16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(aligned(bytes.len()), 0);
    bytes
}

/// A name as it stands in a message.
pub(super) fn name_attribute(kind: u16, name: &[u8]) -> Vec<u8> {
    attribute(kind, &[name, b"\0"].concat())
}

const fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

/// nftables' numbers are in network byte order.
pub(super) fn number(value: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(value.try_into().ok()?))
}

/// A name without the zero behind it.
pub(super) fn name(value: &[u8]) -> &[u8] {
    value.split(|byte| *byte == 0).next().unwrap_or_default()
}
