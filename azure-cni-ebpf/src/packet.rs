//! The only file that reads packets: headers in, plain values out.
//!
//! Every read is bounded by the packet's end; what does not lie in the linear part is fetched by the kernel's helper.

use aya_ebpf::{bindings::__sk_buff, programs::TcContext};
use azure_cni_common::conntrack::{Event, TcpFlags};
use azure_cni_common::family::{Be16, Family, Ipv4, TCP, UDP, V4};
use azure_cni_common::flow::Tuple;

/// Length of an Ethernet header without tags.
pub const ETH_LEN: u32 = 14;

/// include/uapi/linux/if_packet.h
const PACKET_HOST: u32 = 0;
const PACKET_OTHERHOST: u32 = 3;

/// include/uapi/linux/if_ether.h: ETH_P_8021Q and ETH_P_8021AD, of a tag that the kernel has not taken off yet.
const VLAN_ETHERTYPES: [Be16; 2] = [Be16::from_host(0x8100), Be16::from_host(0x88a8)];

/// skb mark of a packet that `from_endpoint` sends to the uplink; `to_wire` takes it off again. Meaningless elsewhere:
/// the kernel clears marks when a packet leaves a pod's namespace.
const HANDLED_MARK: u32 = 0x0ac1_0001;

/// What a packet is to connection tracking.
#[derive(Clone, Copy)]
pub enum Kind {
    Flow(Event),
    /// Any fragment, the first included: its fellows have no ports.
    Fragment,
    /// ICMP other than echo.
    IcmpMessage,
    /// The frame was for all machines of the link; routers do not forward such (RFC 1812 section 5.3.4).
    LinkBroadcast,
}

pub struct Packet<F: Family> {
    /// Ports are zero where the packet has none.
    pub tuple: Tuple<F::Address>,
    pub kind: Kind,
    pub hop_limit: u8,
    /// Bytes from the start of the frame to the transport header.
    pub transport_offset: u32,
    /// Bytes from the start of the IP header to its end of payload.
    pub length: u32,
    /// Index of the interface the program runs at.
    pub ifindex: u32,
    /// Checksum of the IP header, raw; 0 where the family has none.
    pub header_checksum: u16,
}

pub enum Unparsed {
    /// Another protocol, or a frame for another machine.
    NotOurs,
    /// The packet is behind a VLAN tag.
    Tagged,
    Malformed,
}

/// How a family's header is read.
pub trait Headers: Family + Sized {
    fn parse(ctx: &TcContext) -> Result<Packet<Self>, Unparsed>;
}

impl<F: Headers> Packet<F> {
    #[inline(always)]
    pub fn parse(ctx: &TcContext) -> Result<Self, Unparsed> {
        let skb = skb(ctx);
        if skb.vlan_present != 0 || VLAN_ETHERTYPES.iter().any(|tag| skb.protocol == u32::from(tag.0)) {
            return Err(Unparsed::Tagged);
        }
        if skb.protocol != u32::from(F::ETHERTYPE.0) || skb.pkt_type == PACKET_OTHERHOST {
            return Err(Unparsed::NotOurs);
        }
        let mut packet = F::parse(ctx)?;
        if skb.pkt_type != PACKET_HOST {
            packet.kind = Kind::LinkBroadcast;
        }
        Ok(packet)
    }

    /// Whether the packet, or a segment that the device will cut from it, is longer than `mtu`.
    pub fn exceeds(&self, ctx: &TcContext, mtu: u32) -> bool {
        if self.length <= mtu {
            return false;
        }
        let skb = skb(ctx);
        // A TCP header is at most 60 bytes (RFC 9293 section 3.1): a bound, at the cost of the slower way for few.
        let headers = self.transport_offset - ETH_LEN + if self.tuple.protocol == TCP { 20 } else { 8 };
        skb.gso_size == 0 || headers + skb.gso_size > mtu
    }
}

impl Headers for V4 {
    /// RFC 791 section 3.1.
    #[inline(always)]
    fn parse(ctx: &TcContext) -> Result<Packet<V4>, Unparsed> {
        let words: [u32; 5] = read(ctx, ETH_LEN).ok_or(Unparsed::Malformed)?;
        let [version_ihl, _, length_high, length_low] = words[0].to_ne_bytes();
        let [_, _, fragment_high, fragment_low] = words[1].to_ne_bytes();
        let [hop_limit, protocol, sum_first, sum_second] = words[2].to_ne_bytes();

        let header_length = u32::from(version_ihl & 0x0f) * 4;
        let on_the_frame = skb(ctx).len - ETH_LEN;
        let length = match u32::from(u16::from_be_bytes([length_high, length_low])) {
            // Longer than 65,535 bytes in one buffer (Documentation/networking, BIG TCP).
            0 if skb(ctx).gso_size != 0 => on_the_frame,
            length => length,
        };
        if version_ihl >> 4 != 4 || header_length < 20 || length < header_length || length > on_the_frame {
            return Err(Unparsed::Malformed);
        }
        // More-fragments flag and offset.
        let is_fragment = u16::from_be_bytes([fragment_high, fragment_low]) & 0x3fff != 0;
        let transport_offset = ETH_LEN + header_length;
        let transport = if is_fragment {
            Transport::none(Kind::Fragment)
        } else {
            transport(ctx, transport_offset, protocol, length - header_length)?
        };
        Ok(Packet {
            tuple: Tuple {
                source: Ipv4(words[3]),
                destination: Ipv4(words[4]),
                source_port: transport.source_port,
                destination_port: transport.destination_port,
                protocol,
            },
            kind: transport.kind,
            hop_limit,
            transport_offset,
            length,
            ifindex: skb(ctx).ifindex,
            header_checksum: u16::from_ne_bytes([sum_first, sum_second]),
        })
    }
}

struct Transport {
    kind: Kind,
    source_port: Be16,
    destination_port: Be16,
}

impl Transport {
    const fn none(kind: Kind) -> Self {
        Self { kind, source_port: Be16(0), destination_port: Be16(0) }
    }
}

/// Echo (RFC 792).
const ICMP_ECHO_REPLY: u8 = 0;
const ICMP_ECHO: u8 = 8;

#[inline(always)]
fn transport(ctx: &TcContext, offset: u32, protocol: u8, length: u32) -> Result<Transport, Unparsed> {
    match protocol {
        TCP if length >= 20 => {
            // Ports, sequence, acknowledgement, then offset and flags (RFC 9293 section 3.1).
            let words: [u32; 4] = read(ctx, offset).ok_or(Unparsed::Malformed)?;
            let [_, flags, _, _] = words[3].to_ne_bytes();
            Ok(with_ports(words[0], Event::Segment(TcpFlags(flags))))
        }
        UDP if length >= 8 => {
            let word: u32 = read(ctx, offset).ok_or(Unparsed::Malformed)?;
            Ok(with_ports(word, Event::Datagram))
        }
        V4::ICMP if length >= 8 => {
            let words: [u32; 2] = read(ctx, offset).ok_or(Unparsed::Malformed)?;
            let [icmp_type, _, _, _] = words[0].to_ne_bytes();
            let [id_first, id_second, _, _] = words[1].to_ne_bytes();
            let identifier = Be16(u16::from_ne_bytes([id_first, id_second]));
            let mut echo = Transport::none(Kind::Flow(Event::Datagram));
            match icmp_type {
                ICMP_ECHO => echo.source_port = identifier,
                ICMP_ECHO_REPLY => {
                    echo.destination_port = identifier;
                    echo.kind = Kind::Flow(Event::Answer);
                }
                _ => echo.kind = Kind::IcmpMessage,
            }
            Ok(echo)
        }
        TCP | UDP | V4::ICMP => Err(Unparsed::Malformed),
        _ => Ok(Transport::none(Kind::Flow(Event::Datagram))),
    }
}

#[inline(always)]
fn with_ports(word: u32, event: Event) -> Transport {
    let [source_first, source_second, destination_first, destination_second] = word.to_ne_bytes();
    Transport {
        kind: Kind::Flow(event),
        source_port: Be16(u16::from_ne_bytes([source_first, source_second])),
        destination_port: Be16(u16::from_ne_bytes([destination_first, destination_second])),
    }
}

pub fn set_handled_mark(ctx: &TcContext) {
    ctx.set_mark(HANDLED_MARK);
}

/// Whether `from_endpoint` has done all there is to do; the mark is gone afterwards.
pub fn take_handled_mark(ctx: &TcContext) -> bool {
    let handled = skb(ctx).mark == HANDLED_MARK;
    if handled {
        ctx.set_mark(0);
    }
    handled
}

fn skb(ctx: &TcContext) -> &__sk_buff {
    // SAFETY: the context the kernel hands to the program lives as long as the program runs.
    unsafe { &*ctx.skb.skb }
}

/// Reads integers at an offset of the frame.
#[inline(always)]
fn read<T: Copy>(ctx: &TcContext, offset: u32) -> Option<T> {
    let start = ctx.data() + offset as usize;
    if start + size_of::<T>() <= ctx.data_end() {
        // SAFETY: inside the packet, as just checked and as the verifier proves. The address need not be a multiple of
        // the alignment: the verifier admits such loads only where the machine executes them (kernel/bpf/verifier.c,
        // check_ptr_alignment).
        return Some(unsafe { (start as *const T).read() });
    }
    ctx.load(offset as usize).ok()
}
