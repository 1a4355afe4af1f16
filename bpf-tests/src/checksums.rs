//! Checksums as somebody else (etherparse) computes them: the programs update incrementally, here all is summed anew.

use etherparse::{NetSlice, SlicedPacket, TransportSlice};

/// Whether IP header and transport checksums of a frame are what they should be.
pub fn checksums_are_right(frame: &[u8]) -> Result<(), String> {
    let sliced = SlicedPacket::from_ethernet(frame).map_err(|error| error.to_string())?;
    let Some(NetSlice::Ipv4(ip)) = &sliced.net else { return Err("not IPv4".into()) };
    let header = ip.header().to_header();
    if header.header_checksum != header.calc_header_checksum() {
        return Err(format!("IP header: {:04x}, not {:04x}", header.header_checksum, header.calc_header_checksum()));
    }
    let (found, right) = match &sliced.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let right = tcp.to_header().calc_checksum_ipv4(&header, tcp.payload()).map_err(|e| e.to_string())?;
            (tcp.checksum(), right)
        }
        Some(TransportSlice::Udp(udp)) if udp.checksum() == 0 => (0, 0),
        Some(TransportSlice::Udp(udp)) => {
            let right = udp.to_header().calc_checksum_ipv4(&header, udp.payload()).map_err(|e| e.to_string())?;
            (udp.checksum(), right)
        }
        Some(TransportSlice::Icmpv4(icmp)) => (icmp.checksum(), icmp.icmp_type().calc_checksum(icmp.payload())),
        _ => (0, 0),
    };
    if found == right { Ok(()) } else { Err(format!("transport: {found:04x}, not {right:04x}")) }
}
