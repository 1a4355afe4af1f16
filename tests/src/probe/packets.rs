//! Packets written byte by byte: fragments in any order, and segments from unused sources.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd, OwnedFd},
};

use etherparse::{
    IpFragOffset, IpNumber, Ipv4Header, Ipv6FragmentHeader, Ipv6Header, TcpHeader, UdpHeader, err::ValueTooBigError,
};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, sendto, setsockopt, socket, sockopt,
};

use crate::{
    error::{Attempt, Result},
    namespace::Namespace,
    probe::socket_address::family_of,
    station::Station,
};

/// The hop limit of a host's own packets.
const HOP_LIMIT: u8 = 64;
/// A send buffer that holds a burst.
const SEND_BUFFER: usize = 4 << 20;

/// Sends whole IP packets from a station, by its routes; their source is the writer's choice (raw(7), IPPROTO_RAW).
pub struct RawSender {
    socket: OwnedFd,
    to: SockaddrStorage,
}

impl RawSender {
    /// For packets to one address.
    pub fn open(from: &dyn Station, to: impl Into<IpAddr>) -> Result<Self> {
        let to = SocketAddr::new(to.into(), 0);
        let open = || -> io::Result<OwnedFd> {
            let socket = socket(family_of(to), SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw)?;
            setsockopt(&socket, sockopt::SndBuf, &SEND_BUFFER)?;
            Ok(socket)
        };
        let socket = from.namespace().run(open).attempt(|| format!("open a raw socket in {}", from.name()))?;
        Ok(Self { socket, to: to.into() })
    }

    /// Sends one packet, which begins with its IP header.
    pub fn send(&self, packet: &[u8]) -> Result<()> {
        let sent = sendto(self.socket.as_raw_fd(), packet, &self.to, MsgFlags::empty());
        sent.map(drop).attempt(|| format!("send a raw packet of {} bytes", packet.len()))
    }
}

/// Sends whole Ethernet frames out of an interface (packet(7)).
pub struct LinkSender(OwnedFd);

impl LinkSender {
    /// Out of this interface.
    pub fn open(namespace: &Namespace, interface: &str) -> Result<Self> {
        let open = || -> io::Result<OwnedFd> {
            let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
            // SAFETY: an address made of integers, for which zero is a value.
            let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_ifindex = nix::net::if_::if_nametoindex(interface)? as i32;
            let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            // SAFETY: the pointer is to an address of the length named, which lives longer than the call.
            match unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) } {
                0 => Ok(socket),
                _ => Err(io::Error::last_os_error()),
            }
        };
        namespace.run(open).map(Self).attempt(|| format!("open {interface} in {}", namespace.name()))
    }

    /// Sends one frame, which begins with its Ethernet header.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        nix::unistd::write(&self.0, frame).map(drop).attempt(|| format!("send a frame of {} bytes", frame.len()))
    }
}

/// A UDP datagram as the fragments that a link of `mtu` bytes makes of it, in their order.
///
/// # Panics
/// If source and destination are of two versions of IP, or the payload of no datagram.
pub fn fragments(source: SocketAddr, destination: SocketAddr, payload: &[u8], mtu: usize, id: u16) -> Vec<Vec<u8>> {
    write_fragments(source, destination, payload, mtu, id).expect("a datagram has at most 65,535 bytes")
}

fn write_fragments(
    source: SocketAddr,
    destination: SocketAddr,
    payload: &[u8],
    mtu: usize,
    id: u16,
) -> std::result::Result<Vec<Vec<u8>>, ValueTooBigError<usize>> {
    let (from, to) = (source.port(), destination.port());
    let mut udp = UdpHeader::without_ipv4_checksum(from, to, payload.len())?;
    let header_len = match (source.ip(), destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            udp.checksum = udp.calc_checksum_ipv4_raw(source.octets(), destination.octets(), payload)?;
            Ipv4Header::MIN_LEN
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            udp.checksum = udp.calc_checksum_ipv6_raw(source.octets(), destination.octets(), payload)?;
            Ipv6Header::LEN + Ipv6FragmentHeader::LEN
        }
        mixed => panic!("{mixed:?} are of two versions"),
    };
    let datagram = [&udp.to_bytes()[..], payload].concat();
    // All but the last carry a multiple of 8 bytes (RFC 791 section 3.2, RFC 8200 section 4.5).
    let size = (mtu - header_len) & !7;
    let pieces = datagram.chunks(size).enumerate().map(|(number, piece)| {
        let offset = number * size;
        let more = offset + piece.len() < datagram.len();
        let units = IpFragOffset::try_new((offset / 8) as u16).expect("a datagram has at most 65,535 bytes");
        [&fragment_header(source.ip(), destination.ip(), units, more, id, piece.len())[..], piece].concat()
    });
    Ok(pieces.collect())
}

fn fragment_header(source: IpAddr, destination: IpAddr, at: IpFragOffset, more: bool, id: u16, len: usize) -> Vec<u8> {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let (source, destination) = (source.octets(), destination.octets());
            let header = Ipv4Header::new(len as u16, HOP_LIMIT, IpNumber::UDP, source, destination);
            let mut header = header.expect("a fragment is shorter than a datagram");
            (header.identification, header.more_fragments, header.fragment_offset) = (id, more, at);
            header.dont_fragment = false;
            header.header_checksum = header.calc_header_checksum();
            header.to_bytes().to_vec()
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let fragment = Ipv6FragmentHeader::new(IpNumber::UDP, at, more, id.into()).to_bytes();
            let next = IpNumber::IPV6_FRAGMENTATION_HEADER;
            [ipv6_header(source.octets(), destination.octets(), next, fragment.len() + len), fragment.to_vec()].concat()
        }
        mixed => panic!("{mixed:?} are of two versions"),
    }
}

fn ipv6_header(source: [u8; 16], destination: [u8; 16], next_header: IpNumber, payload: usize) -> Vec<u8> {
    let payload_length = payload as u16;
    let header =
        Ipv6Header { source, destination, next_header, payload_length, hop_limit: HOP_LIMIT, ..<_>::default() };
    header.to_bytes().to_vec()
}

/// The first segment of a TCP connection.
///
/// # Panics
/// If source and destination are of two versions of IP.
pub fn syn(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    const WINDOW: u16 = 64_240;
    let mut tcp = TcpHeader::new(source.port(), destination.port(), u32::from(source.port()) << 8, WINDOW);
    tcp.syn = true;
    match (source.ip(), destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let (source, destination) = (source.octets(), destination.octets());
            let ip = Ipv4Header::new(tcp.header_len_u16(), HOP_LIMIT, IpNumber::TCP, source, destination);
            let ip = ip.expect("a TCP header is short");
            tcp.checksum = tcp.calc_checksum_ipv4_raw(source, destination, &[]).expect("no payload");
            [&ip.to_bytes()[..], &tcp.to_bytes()].concat()
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let (source, destination) = (source.octets(), destination.octets());
            tcp.checksum = tcp.calc_checksum_ipv6_raw(source, destination, &[]).expect("no payload");
            [&ipv6_header(source, destination, IpNumber::TCP, tcp.header_len())[..], &tcp.to_bytes()].concat()
        }
        mixed => panic!("{mixed:?} are of two versions"),
    }
}

#[cfg(test)]
mod tests {
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};

    use super::*;

    const ENDS: [(&str, &str); 2] = [("10.0.0.1:1000", "10.0.0.2:2000"), ("[fd00::1]:1000", "[fd00::2]:2000")];

    #[test]
    fn fragments_fit_the_link_and_carry_the_datagram() {
        for (source, destination) in ENDS {
            let pieces = fragments(source.parse().unwrap(), destination.parse().unwrap(), &[7; 4000], 1500, 9);
            assert_eq!(pieces.len(), 3);
            assert!(pieces.iter().all(|piece| piece.len() <= 1500));
            let carried = pieces.iter().map(|piece| {
                let packet = SlicedPacket::from_ip(piece).expect("a packet");
                assert!(packet.is_ip_payload_fragmented());
                match packet.net {
                    Some(NetSlice::Ipv4(ip)) => ip.payload().payload.len(),
                    Some(NetSlice::Ipv6(ip)) => ip.payload().payload.len(),
                    other => panic!("{other:?}"),
                }
            });
            assert_eq!(carried.sum::<usize>(), 4000 + UdpHeader::LEN);
        }
    }

    #[test]
    fn syn_is_a_segment_that_a_listener_takes() {
        for (source, destination) in ENDS {
            let segment = syn(source.parse().unwrap(), destination.parse().unwrap());
            let packet = SlicedPacket::from_ip(&segment).expect("a packet");
            let Some(TransportSlice::Tcp(tcp)) = packet.transport else { panic!("no TCP") };
            assert!(tcp.syn() && !tcp.ack());
            let expected = match packet.net {
                Some(NetSlice::Ipv4(ip)) => tcp.to_header().calc_checksum_ipv4(&ip.header().to_header(), &[]),
                Some(NetSlice::Ipv6(ip)) => tcp.to_header().calc_checksum_ipv6(&ip.header().to_header(), &[]),
                other => panic!("{other:?}"),
            };
            assert_eq!(tcp.checksum(), expected.expect("no payload"));
        }
    }
}
