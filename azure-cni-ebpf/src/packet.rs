//! The only file that reads packets: headers in, plain values out.
//!
//! Every read is bounded by the packet's end; what does not lie in the linear part is fetched by the kernel's helper.

use aya_ebpf::{bindings::__sk_buff, programs::TcContext};
use azure_cni_common::conntrack::{Event, TcpFlags};
use azure_cni_common::family::{Be16, Family, Ipv4, Ipv6, TCP, UDP, V4, V6};
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

/// skb mark of a fragment that was put back into its queue; the low bits count how often.
const WAITING_MARK: u32 = 0x0ac2_0000;

/// How often a fragment is put back before its packet's first is taken for lost: about what a burst of a driver's poll
/// (64 packets, include/linux/netdevice.h, NAPI_POLL_WEIGHT) takes to pass.
const MOST_WAITS: u32 = 8;

/// What a packet is to connection tracking.
#[derive(Clone, Copy)]
pub enum Kind {
    /// [`Packet::event`] says what happens in it.
    Flow,
    /// A later fragment whose first has not come.
    StrayFragment,
    /// An ICMP message about a packet of a flow: see [`is_icmp_error`].
    IcmpError,
    /// Belongs to no flow: other ICMP messages, headers too many to look behind.
    Opaque,
    /// The transport's header is cut short.
    Malformed,
    /// The frame was for all machines of the link; routers do not forward such (RFC 1812 section 5.3.4).
    LinkBroadcast,
}

/// An [`Event`] without what only some of them carry: a payload that is set in some variants only is left uninitialised in
/// the others, and the compiler moves such bytes around where the verifier refuses to read them.
#[derive(Clone, Copy)]
enum Said {
    Segment,
    Datagram,
    Answer,
    Fragment,
}

/// How much of the packet that was sent is in this one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Whole,
    First,
    /// Without the transport's header.
    Later,
}

pub struct Packet<F: Family> {
    /// Ports are zero where the packet has none.
    pub tuple: Tuple<F::Address>,
    pub kind: Kind,
    said: Said,
    flags: TcpFlags,
    pub part: Part,
    pub hop_limit: u8,
    /// Of fragments, as it stands in the packet.
    pub identification: u32,
    /// See [`Packet::transport_offset`].
    transport_offset: u16,
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

/// The verifier follows no offset beyond 65,535 into a packet (kernel/bpf/verifier.c, MAX_PACKET_OFF). The deepest
/// transport header is behind four extension headers of 2,048 bytes.
const DEEPEST: u32 = 0x7fff;

/// How a family's header is read.
pub trait Headers: Family + Sized {
    const ECHO: u8;
    const ECHO_REPLY: u8;

    fn is_icmp_error(icmp_type: u8) -> bool;

    /// Of a packet whose ICMP header is right behind its IP header.
    fn icmp_type(ctx: &TcContext) -> Option<u8>;

    fn parse(ctx: &TcContext, packet: &mut Packet<Self>) -> Result<(), Unparsed>;

    /// The header of the packet that an ICMP error quotes.
    fn parse_quoted(ctx: &TcContext, offset: u32) -> Option<QuotedHeader<Self>>;
}

/// Whether the packet is an ICMP error right behind its IP header: those go a way of their own.
#[inline(always)]
pub fn is_icmp_error<F: Headers>(ctx: &TcContext) -> bool {
    match F::icmp_type(ctx) {
        Some(icmp_type) => F::is_icmp_error(icmp_type),
        None => false,
    }
}

/// Whether the frame says that it holds a packet of this family.
pub fn is_of<F: Family>(ctx: &TcContext) -> bool {
    skb(ctx).protocol == u32::from(F::ETHERTYPE.0)
}

impl<F: Headers> Packet<F> {
    #[inline(always)]
    pub fn parse(&mut self, ctx: &TcContext) -> Result<(), Unparsed> {
        let skb = skb(ctx);
        if skb.vlan_present != 0 || VLAN_ETHERTYPES.iter().any(|tag| skb.protocol == u32::from(tag.0)) {
            return Err(Unparsed::Tagged);
        }
        if skb.protocol != u32::from(F::ETHERTYPE.0) || skb.pkt_type == PACKET_OTHERHOST {
            return Err(Unparsed::NotOurs);
        }
        F::parse(ctx, self)?;
        if matches!(self.kind, Kind::Malformed) {
            return Err(Unparsed::Malformed);
        }
        if skb.pkt_type != PACKET_HOST {
            self.kind = Kind::LinkBroadcast;
        }
        Ok(())
    }

    /// [`Self::parse`] with a stack of its own, for those who need much of theirs later.
    #[inline(never)]
    pub fn parse_apart(&mut self, ctx: &TcContext) -> Result<(), Unparsed> {
        self.parse(ctx)
    }

    /// What the packet says about its flow; to be asked if its kind is [`Kind::Flow`].
    #[inline(always)]
    pub fn event(&self) -> Event {
        match self.said {
            Said::Segment => Event::Segment(self.flags),
            Said::Datagram => Event::Datagram,
            Said::Answer => Event::Answer,
            Said::Fragment => Event::Fragment,
        }
    }

    /// The ports are known after all.
    pub fn follows(&mut self, source_port: Be16, destination_port: Be16) {
        self.tuple.source_port = source_port;
        self.tuple.destination_port = destination_port;
        self.kind = Kind::Flow;
        self.said = Said::Fragment;
    }

    /// Bytes from the start of the frame to the transport header: at most [`DEEPEST`], as the parser sees to.
    pub fn transport_offset(&self) -> u32 {
        // Said again where the verifier has forgotten it.
        u32::from(self.transport_offset) & DEEPEST
    }

    /// Whether the packet, or a segment that the device will cut from it, is longer than `mtu`.
    pub fn exceeds(&self, ctx: &TcContext, mtu: u32) -> bool {
        if self.length <= mtu {
            return false;
        }
        let skb = skb(ctx);
        // A TCP header is at most 60 bytes (RFC 9293 section 3.1): a bound, at the cost of the slower way for few.
        let headers = self.transport_offset() - ETH_LEN + if self.tuple.protocol == TCP { 20 } else { 8 };
        skb.gso_size == 0 || headers + skb.gso_size > mtu
    }
}

impl Headers for V4 {
    /// RFC 792.
    const ECHO: u8 = 8;
    const ECHO_REPLY: u8 = 0;

    /// Destination unreachable, time exceeded, parameter problem (RFC 792). Redirects are for the link alone.
    fn is_icmp_error(icmp_type: u8) -> bool {
        matches!(icmp_type, 3 | 11 | 12)
    }

    #[inline(always)]
    fn icmp_type(ctx: &TcContext) -> Option<u8> {
        let [fragment, second]: [u32; 2] = read(ctx, ETH_LEN + 4)?;
        let ([_, _, high, low], [_, protocol, _, _]) = (fragment.to_ne_bytes(), second.to_ne_bytes());
        // A later fragment begins with anything.
        if protocol != V4::ICMP || u16::from_be_bytes([high, low]) & 0x1fff != 0 {
            return None;
        }
        let [version_ihl, _]: [u8; 2] = read(ctx, ETH_LEN)?;
        let [icmp_type, _]: [u8; 2] = read(ctx, ETH_LEN + u32::from(version_ihl & 0x0f) * 4)?;
        Some(icmp_type)
    }

    /// RFC 791 section 3.1.
    #[inline(always)]
    fn parse(ctx: &TcContext, packet: &mut Packet<V4>) -> Result<(), Unparsed> {
        let words: [u32; 5] = read(ctx, ETH_LEN).ok_or(Unparsed::Malformed)?;
        let [version_ihl, _, length_high, length_low] = words[0].to_ne_bytes();
        let [id_high, id_low, fragment_high, fragment_low] = words[1].to_ne_bytes();
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
        let fragment = u16::from_be_bytes([fragment_high, fragment_low]);
        let part = Part::of(fragment & 0x1fff != 0, fragment & 0x2000 != 0);
        let transport_offset = ETH_LEN + header_length;
        let transport = transport::<V4>(ctx, transport_offset, protocol, length - header_length, part);
        *packet = Packet {
            tuple: transport.between(Ipv4(words[3]), Ipv4(words[4]), protocol),
            kind: transport.kind,
            said: transport.said,
            flags: transport.flags,
            part,
            hop_limit,
            identification: u32::from(u16::from_ne_bytes([id_high, id_low])),
            transport_offset: transport_offset as u16,
            length,
            ifindex: skb(ctx).ifindex,
            header_checksum: u16::from_ne_bytes([sum_first, sum_second]),
        };
        Ok(())
    }

    #[inline(always)]
    fn parse_quoted(ctx: &TcContext, offset: u32) -> Option<QuotedHeader<V4>> {
        let words: [u32; 5] = read(ctx, offset)?;
        let [version_ihl, _, _, _] = words[0].to_ne_bytes();
        let [_, _, fragment_high, fragment_low] = words[1].to_ne_bytes();
        let [_, protocol, sum_first, sum_second] = words[2].to_ne_bytes();
        let header_length = u32::from(version_ihl & 0x0f) * 4;
        let is_later = u16::from_be_bytes([fragment_high, fragment_low]) & 0x1fff != 0;
        (version_ihl >> 4 == 4 && header_length >= 20 && !is_later).then_some(QuotedHeader {
            source: Ipv4(words[3]),
            destination: Ipv4(words[4]),
            protocol,
            source_offset: offset + 12,
            checksum: (offset + 10, u16::from_ne_bytes([sum_first, sum_second])),
            transport_offset: offset + header_length,
        })
    }
}

impl Headers for V6 {
    /// RFC 4443 section 4.
    const ECHO: u8 = 128;
    const ECHO_REPLY: u8 = 129;

    /// RFC 4443 section 2.1: error messages have the high bit clear. The four that are defined.
    fn is_icmp_error(icmp_type: u8) -> bool {
        matches!(icmp_type, 1..=4)
    }

    #[inline(always)]
    fn icmp_type(ctx: &TcContext) -> Option<u8> {
        let [next_header, _]: [u8; 2] = read(ctx, ETH_LEN + 6)?;
        if next_header != V6::ICMP {
            return None;
        }
        let [icmp_type, _]: [u8; 2] = read(ctx, ETH_LEN + V6_HEADER)?;
        Some(icmp_type)
    }

    /// RFC 8200 section 3.
    #[inline(always)]
    fn parse(ctx: &TcContext, packet: &mut Packet<V6>) -> Result<(), Unparsed> {
        let words: [u32; 10] = read(ctx, ETH_LEN).ok_or(Unparsed::Malformed)?;
        let [version, _, _, _] = words[0].to_ne_bytes();
        let [length_high, length_low, next_header, hop_limit] = words[1].to_ne_bytes();
        let on_the_frame = skb(ctx).len - ETH_LEN;
        let length = match u32::from(u16::from_be_bytes([length_high, length_low])) {
            // A jumbo payload (RFC 2675), which exists here only until the device cuts it.
            0 if skb(ctx).gso_size != 0 => on_the_frame,
            length => length + V6_HEADER,
        };
        if version >> 4 != 6 || length > on_the_frame {
            return Err(Unparsed::Malformed);
        }
        let source = Ipv6([words[2], words[3], words[4], words[5]]);
        let destination = Ipv6([words[6], words[7], words[8], words[9]]);
        let inner = behind_extensions(ctx, ETH_LEN + V6_HEADER, next_header).ok_or(Unparsed::Malformed)?;
        let headers = inner.offset - ETH_LEN;
        let transport = if inner.is_hidden {
            Transport::none(Kind::Opaque)
        } else if headers > length {
            Transport::none(Kind::Malformed)
        } else {
            transport::<V6>(ctx, inner.offset, inner.protocol, length - headers, inner.part)
        };
        *packet = Packet {
            tuple: transport.between(source, destination, inner.protocol),
            kind: transport.kind,
            said: transport.said,
            flags: transport.flags,
            part: inner.part,
            hop_limit,
            identification: inner.identification,
            transport_offset: inner.offset as u16,
            length,
            ifindex: skb(ctx).ifindex,
            header_checksum: 0,
        };
        Ok(())
    }

    #[inline(always)]
    fn parse_quoted(ctx: &TcContext, offset: u32) -> Option<QuotedHeader<V6>> {
        let words: [u32; 10] = read(ctx, offset)?;
        let [version, _, _, _] = words[0].to_ne_bytes();
        let [_, _, next_header, _] = words[1].to_ne_bytes();
        let inner = behind_extensions(ctx, offset + V6_HEADER, next_header)?;
        (version >> 4 == 6 && !inner.is_hidden && inner.part != Part::Later).then_some(QuotedHeader {
            source: Ipv6([words[2], words[3], words[4], words[5]]),
            destination: Ipv6([words[6], words[7], words[8], words[9]]),
            protocol: inner.protocol,
            source_offset: offset + 8,
            checksum: (0, 0),
            transport_offset: inner.offset,
        })
    }
}

/// Length of the IPv6 header without extensions.
const V6_HEADER: u32 = 40;

/// What is behind IPv6 extension headers.
#[derive(Clone, Copy)]
struct Inner {
    protocol: u8,
    part: Part,
    /// More headers than are looked behind.
    is_hidden: bool,
    identification: u32,
    offset: u32,
}

/// Extension headers that are looked behind. Real packets have one or two.
const MOST_EXTENSIONS: u32 = 4;

/// RFC 8200 section 4: hop-by-hop options, routing, fragment, destination options. All else is taken for the transport.
#[inline(always)]
fn behind_extensions(ctx: &TcContext, offset: u32, next_header: u8) -> Option<Inner> {
    let mut inner = Inner { protocol: next_header, part: Part::Whole, is_hidden: false, identification: 0, offset };
    for _ in 0..MOST_EXTENSIONS {
        if !is_extension(inner.protocol) || inner.part == Part::Later {
            return Some(inner);
        }
        let words: [u32; 2] = read(ctx, inner.offset)?;
        let [next, length, fragment_high, fragment_low] = words[0].to_ne_bytes();
        if inner.protocol == FRAGMENT {
            let fragment = u16::from_be_bytes([fragment_high, fragment_low]);
            inner.part = Part::of(fragment & 0xfff8 != 0, fragment & 1 != 0);
            inner.identification = words[1];
            inner.offset += 8;
        } else {
            inner.offset += (u32::from(length) + 1) * 8;
        }
        inner.protocol = next;
    }
    inner.is_hidden = is_extension(inner.protocol);
    Some(inner)
}

/// IANA protocol number of the fragment header.
const FRAGMENT: u8 = 44;

fn is_extension(protocol: u8) -> bool {
    matches!(protocol, 0 | 43 | FRAGMENT | 60)
}

impl Part {
    fn of(has_offset: bool, has_more: bool) -> Self {
        match (has_offset, has_more) {
            (true, _) => Self::Later,
            (false, true) => Self::First,
            (false, false) => Self::Whole,
        }
    }
}

struct Transport {
    kind: Kind,
    said: Said,
    flags: TcpFlags,
    source_port: Be16,
    destination_port: Be16,
}

impl Transport {
    const fn none(kind: Kind) -> Self {
        Self { kind, said: Said::Datagram, flags: TcpFlags(0), source_port: Be16(0), destination_port: Be16(0) }
    }

    /// The two ports as one word of the packet.
    const fn with_ports(word: u32, said: Said, flags: TcpFlags) -> Self {
        let [source_first, source_second, destination_first, destination_second] = word.to_ne_bytes();
        Self {
            kind: Kind::Flow,
            said,
            flags,
            source_port: Be16(u16::from_ne_bytes([source_first, source_second])),
            destination_port: Be16(u16::from_ne_bytes([destination_first, destination_second])),
        }
    }

    fn between<A>(&self, source: A, destination: A, protocol: u8) -> Tuple<A> {
        let Self { source_port, destination_port, .. } = *self;
        Tuple { source, destination, source_port, destination_port, protocol }
    }
}

#[inline(always)]
fn transport<F: Headers>(ctx: &TcContext, offset: u32, protocol: u8, length: u32, part: Part) -> Transport {
    if part == Part::Later {
        return Transport::none(Kind::StrayFragment);
    }
    match protocol {
        TCP if length >= 20 => match read::<[u32; 4]>(ctx, offset) {
            // Ports, sequence, acknowledgement, then offset and flags (RFC 9293 section 3.1).
            Some([ports, _, _, word]) => {
                let [_, flags, _, _] = word.to_ne_bytes();
                Transport::with_ports(ports, Said::Segment, TcpFlags(flags))
            }
            None => Transport::none(Kind::Malformed),
        },
        UDP if length >= 8 => match read::<u32>(ctx, offset) {
            Some(ports) => Transport::with_ports(ports, Said::Datagram, TcpFlags(0)),
            None => Transport::none(Kind::Malformed),
        },
        protocol if protocol == F::ICMP && length >= 8 => match read::<[u32; 2]>(ctx, offset) {
            Some([first, second]) => {
                let [icmp_type, _, _, _] = first.to_ne_bytes();
                icmp::<F>(icmp_type, second)
            }
            None => Transport::none(Kind::Malformed),
        },
        TCP | UDP => Transport::none(Kind::Malformed),
        protocol if protocol == F::ICMP => Transport::none(Kind::Malformed),
        _ => Transport::none(Kind::Flow),
    }
}

/// The identifier of an echo is the port of the side that asks.
#[inline(always)]
fn icmp<F: Headers>(icmp_type: u8, second_word: u32) -> Transport {
    let [id_first, id_second, _, _] = second_word.to_ne_bytes();
    let identifier = Be16(u16::from_ne_bytes([id_first, id_second]));
    if icmp_type == F::ECHO {
        Transport { source_port: identifier, ..Transport::none(Kind::Flow) }
    } else if icmp_type == F::ECHO_REPLY {
        Transport { destination_port: identifier, said: Said::Answer, ..Transport::none(Kind::Flow) }
    } else {
        Transport::none(if F::is_icmp_error(icmp_type) { Kind::IcmpError } else { Kind::Opaque })
    }
}

/// The IP header of a quoted packet.
pub struct QuotedHeader<F: Family> {
    source: F::Address,
    destination: F::Address,
    protocol: u8,
    source_offset: u32,
    checksum: (u32, u16),
    transport_offset: u32,
}

/// The packet that an ICMP error speaks of, as far as it is quoted: eight bytes behind its IP header are certain (RFC 792,
/// RFC 4443 section 2.4 has more). Offsets are from the start of the frame.
pub struct Quoted<F: Family> {
    /// In the quoted packet's own direction.
    pub tuple: Tuple<F::Address>,
    /// Of the source address; the destination comes right behind.
    pub source_offset: u32,
    /// Where the IP header's checksum is, and what it is; at 0 there is none.
    pub header_checksum: (u32, u16),
    /// Where the port of the source is, and of the destination; 0 if it has none.
    pub port_offsets: [u32; 2],
    /// Where the transport's checksum is, and what it is; at 0 it was cut off, or says that there is none.
    pub checksum: (u32, u16),
}

impl<F: Headers> Quoted<F> {
    /// `None` if the message quotes nothing that belongs to a flow.
    #[inline(always)]
    pub fn parse(&mut self, ctx: &TcContext, packet: &Packet<F>) -> Option<()> {
        let header = F::parse_quoted(ctx, packet.transport_offset() + ICMP_HEADER)?;
        let start = header.transport_offset;
        let words: [u32; 2] = read(ctx, start)?;
        let [icmp_type, _, icmp_sum_first, icmp_sum_second] = words[0].to_ne_bytes();
        let [_, _, udp_sum_first, udp_sum_second] = words[1].to_ne_bytes();
        let udp_sum = u16::from_ne_bytes([udp_sum_first, udp_sum_second]);
        let icmp_sum = u16::from_ne_bytes([icmp_sum_first, icmp_sum_second]);
        let (transport, port_offsets, checksum) = match header.protocol {
            TCP => {
                let checksum = match read::<u16>(ctx, start + 16) {
                    Some(sum) => (start + 16, sum),
                    None => (0, 0),
                };
                (Transport::with_ports(words[0], Said::Fragment, TcpFlags(0)), [start, start + 2], checksum)
            }
            UDP => {
                let checksum = if udp_sum != 0 { (start + 6, udp_sum) } else { (0, 0) };
                (Transport::with_ports(words[0], Said::Fragment, TcpFlags(0)), [start, start + 2], checksum)
            }
            icmp_protocol if icmp_protocol == F::ICMP => {
                let offsets = match icmp_type {
                    request if request == F::ECHO => [start + 4, 0],
                    reply if reply == F::ECHO_REPLY => [0, start + 4],
                    _ => return None,
                };
                (icmp::<F>(icmp_type, words[1]), offsets, (start + 2, icmp_sum))
            }
            _ => (Transport::none(Kind::Opaque), [0, 0], (0, 0)),
        };
        let tuple = transport.between(header.source, header.destination, header.protocol);
        let QuotedHeader { source_offset, checksum: header_checksum, .. } = header;
        *self = Self { tuple, source_offset, header_checksum, port_offsets, checksum };
        Some(())
    }
}

/// RFC 792, RFC 4443 section 2.1: type, code, checksum, four bytes that depend on the type.
const ICMP_HEADER: u32 = 8;

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

/// Whether a fragment may wait once more for its packet's first; notes that it does. If not, the note is gone.
pub fn may_wait(ctx: &TcContext) -> bool {
    let mark = skb(ctx).mark;
    let waits = if mark & !WAITS == WAITING_MARK { mark & WAITS } else { 0 };
    let may = waits < MOST_WAITS && (mark == 0 || waits > 0);
    if may {
        ctx.set_mark(WAITING_MARK | (waits + 1));
    } else {
        end_wait(ctx);
    }
    may
}

/// What others see of a packet that has waited is the packet as it came.
pub fn end_wait(ctx: &TcContext) {
    if skb(ctx).mark & !WAITS == WAITING_MARK {
        ctx.set_mark(0);
    }
}

/// The bits of [`WAITING_MARK`] that count.
const WAITS: u32 = 0xff;

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
