//! Checksums as another code (etherparse) computes them: the programs update incrementally, here all is summed again.

use etherparse::{Ipv4Header, Ipv6Header, NetSlice, SlicedPacket, TransportSlice};

/// Whether IP header and transport checksums of a frame are what they should be. A fragment's transport is not looked at.
pub fn checksums_are_right(frame: &[u8]) -> Result<(), String> {
    let sliced = SlicedPacket::from_ethernet(frame).map_err(|error| error.to_string())?;
    let Some(transport) = &sliced.transport else { return header_is_right(&sliced) };
    header_is_right(&sliced)?;
    let (found, right) = match &sliced.net {
        Some(NetSlice::Ipv4(ip)) => of_ipv4(transport, &ip.header().to_header())?,
        Some(NetSlice::Ipv6(ip)) => of_ipv6(transport, &ip.header().to_header())?,
        _ => return Err("not IP".into()),
    };
    if found == right { Ok(()) } else { Err(format!("transport: {found:04x}, not {right:04x}")) }
}

fn header_is_right(sliced: &SlicedPacket) -> Result<(), String> {
    match &sliced.net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header().to_header();
            let (found, right) = (header.header_checksum, header.calc_header_checksum());
            if found == right { Ok(()) } else { Err(format!("IP header: {found:04x}, not {right:04x}")) }
        }
        Some(NetSlice::Ipv6(_)) => Ok(()),
        _ => Err("not IP".into()),
    }
}

/// As found, and as it should be.
fn of_ipv4(transport: &TransportSlice, ip: &Ipv4Header) -> Result<(u16, u16), String> {
    Ok(match transport {
        TransportSlice::Udp(udp) if udp.checksum() == 0 => (0, 0),
        TransportSlice::Tcp(tcp) => {
            (tcp.checksum(), tcp.to_header().calc_checksum_ipv4(ip, tcp.payload()).map_err(in_words)?)
        }
        TransportSlice::Udp(udp) => {
            (udp.checksum(), udp.to_header().calc_checksum_ipv4(ip, udp.payload()).map_err(in_words)?)
        }
        TransportSlice::Icmpv4(icmp) => (icmp.checksum(), icmp.icmp_type().calc_checksum(icmp.payload())),
        other => return Err(format!("not known in IPv4: {other:?}")),
    })
}

/// Same. UDP has no packets without a checksum here (RFC 8200 section 8.1).
fn of_ipv6(transport: &TransportSlice, ip: &Ipv6Header) -> Result<(u16, u16), String> {
    Ok(match transport {
        TransportSlice::Tcp(tcp) => {
            (tcp.checksum(), tcp.to_header().calc_checksum_ipv6(ip, tcp.payload()).map_err(in_words)?)
        }
        TransportSlice::Udp(udp) => {
            (udp.checksum(), udp.to_header().calc_checksum_ipv6(ip, udp.payload()).map_err(in_words)?)
        }
        TransportSlice::Icmpv6(icmp) => {
            let right = icmp.icmp_type().calc_checksum(ip.source, ip.destination, icmp.payload());
            (icmp.checksum(), right.map_err(in_words)?)
        }
        other => return Err(format!("not known in IPv6: {other:?}")),
    })
}

fn in_words(error: impl std::fmt::Display) -> String {
    error.to_string()
}
