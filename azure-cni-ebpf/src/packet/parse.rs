//! The only file that reads a packet's memory: headers in, plain values out.
//!
//! Every read is bounded by the packet's end; what does not lie in the linear part is fetched by the kernel's helper. How a
//! family's own header looks is in `v4` and `v6`; what lies behind it (ports, flags, the identifier of an echo) is here.

use aya_ebpf::{bindings::__sk_buff, programs::TcContext};
use azure_cni_common::conntrack::{Event, EventKind};
use azure_cni_common::endpoint::{EndpointEntry, HOST_MAC};
use azure_cni_common::family::{Be16, Family, TCP, UDP, UDP_LITE};
use azure_cni_common::flow::{FlowKey, Side, Tuple};
use azure_cni_common::tcp::{Segment, TcpFlags};

/// Length of an Ethernet header without tags.
pub const ETH_LEN: u32 = 14;

/// include/uapi/linux/if_packet.h
const PACKET_HOST: u32 = 0;
const PACKET_OTHERHOST: u32 = 3;

/// include/uapi/linux/if_ether.h: ETH_P_8021Q and ETH_P_8021AD, of a tag that the kernel has not taken off yet.
const VLAN_ETHERTYPES: [Be16; 2] = [Be16::from_host(0x8100), Be16::from_host(0x88a8)];

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

/// How much of the packet that was sent is in this one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Whole,
    First,
    /// Without the transport's header.
    Later,
}

impl Part {
    pub(super) fn of(has_offset: bool, has_more: bool) -> Self {
        match (has_offset, has_more) {
            (true, _) => Self::Later,
            (false, true) => Self::First,
            (false, false) => Self::Whole,
        }
    }
}

pub struct Packet<F: Family> {
    /// Ports are zero where the packet has none.
    pub tuple: Tuple<F::Address>,
    pub kind: Kind,
    pub(super) event_kind: EventKind,
    /// Of TCP; of anything else, what an earlier packet had.
    pub(super) segment: Segment,
    pub part: Part,
    pub hop_limit: u8,
    /// Of fragments, as it stands in the packet.
    pub identification: u32,
    /// See [`Packet::transport_offset`].
    pub(super) transport_offset: u16,
    /// Bytes from the start of the IP header to its end of payload.
    pub length: u32,
    /// Index of the interface the program runs at.
    pub ifindex: u32,
    /// Checksum of the IP header, raw; 0 where the family has none.
    pub header_checksum: u16,
    /// Of the packet's flow, once it is tracked.
    pub flow_key: FlowKey<F::Address>,
    pub(super) head: Head,
}

/// How a frame for a pod begins. It is kept here, as the stack of a program has no room for it. Of the IP header it has what
/// the family writes in one go with the Ethernet header.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Head {
    /// The Ethernet header, behind two bytes that put the IP header at a multiple of four. Words: a store each.
    pub(super) ethernet: [u32; 4],
    pub(super) ip: [u32; 3],
}

impl Head {
    /// To the pod's interface.
    #[inline(always)]
    pub(super) fn address<F: Family>(&mut self, pod: &EndpointEntry) {
        let [a, b] = pod.mac_start.to_ne_bytes();
        let [g, h, i, j, k, l] = HOST_MAC;
        let [m, n] = F::ETHERTYPE.0.to_ne_bytes();
        let word = u32::from_ne_bytes;
        self.ethernet = [word([0, 0, a, b]), pod.mac_rest, word([g, h, i, j]), word([k, l, m, n])];
    }
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
    /// Echo, and the other questions that have an identifier where an echo has it.
    fn is_query(icmp_type: u8) -> bool;
    /// What answers them.
    fn is_query_reply(icmp_type: u8) -> bool;
    fn is_icmp_error(icmp_type: u8) -> bool;

    /// Of a packet whose ICMP header is right behind its IP header.
    fn icmp_type(ctx: &TcContext) -> Option<u8>;

    fn parse(ctx: &TcContext, packet: &mut Packet<Self>) -> Result<(), Unparsed>;

    /// The header of the packet that an ICMP error quotes.
    fn parse_quoted(ctx: &TcContext, offset: u32) -> Option<QuotedHeader<Self>>;
}

/// The IP header of a quoted packet.
pub struct QuotedHeader<F: Family> {
    pub(super) source: F::Address,
    pub(super) destination: F::Address,
    pub(super) protocol: u8,
    pub(super) source_offset: u32,
    pub(super) checksum: (u32, u16),
    pub(super) transport_offset: u32,
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
    /// See [`Self::event`]; and, in place, the key of the packet's flow and which side of it sent the packet.
    #[inline(always)]
    pub fn identify(&mut self) -> (Event<'_>, &FlowKey<F::Address>, Side) {
        let side = self.flow_key.set(&self.tuple);
        (Event::new(self.event_kind, &self.segment), &self.flow_key, side)
    }

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
        if skb.pkt_type != PACKET_HOST && !matches!(self.kind, Kind::Malformed) {
            self.kind = Kind::LinkBroadcast;
        }
        Ok(())
    }

    /// [`Self::parse`] with a stack of its own, for callers that need much of theirs later.
    #[inline(never)]
    pub fn parse_apart(&mut self, ctx: &TcContext) -> Result<(), Unparsed> {
        self.parse(ctx)
    }

    /// What the packet says about its flow; to be asked if its kind is [`Kind::Flow`].
    #[inline(always)]
    pub fn event(&self) -> Event<'_> {
        Event::new(self.event_kind, &self.segment)
    }

    /// Whether there are ports to be remembered, or found.
    #[inline(always)]
    pub fn is_fragment(&self) -> bool {
        self.part != Part::Whole && !matches!(self.kind, Kind::Malformed)
    }

    /// The ports are known after all.
    pub fn follows(&mut self, source_port: Be16, destination_port: Be16) {
        self.tuple.source_port = source_port;
        self.tuple.destination_port = destination_port;
        self.kind = Kind::Flow;
        self.event_kind = EventKind::Fragment;
    }

    /// Bytes from the start of the frame to the transport header: at most [`DEEPEST`], the parser sees to that.
    pub fn transport_offset(&self) -> u32 {
        // Bounded once more: the verifier has forgotten it.
        u32::from(self.transport_offset) & DEEPEST
    }

    /// Bytes of the headers that each segment gets which the device will cut from the packet.
    #[inline(always)]
    pub fn segment_headers(&self) -> u32 {
        if matches!(self.event_kind, EventKind::Segment) {
            self.length.saturating_sub(self.segment.length)
        } else {
            self.transport_offset() - ETH_LEN + 8
        }
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

/// Bytes of the IP packet with what a sender may have put behind it.
pub fn ip_length(ctx: &TcContext) -> u32 {
    skb(ctx).len.saturating_sub(ETH_LEN)
}

/// The interface that the packet came in by; 0 for one that this machine made.
pub fn came_by(ctx: &TcContext) -> u32 {
    skb(ctx).ingress_ifindex
}

pub fn skb(ctx: &TcContext) -> &__sk_buff {
    // SAFETY: the context the kernel hands to the program lives as long as the program runs.
    unsafe { &*ctx.skb.skb }
}

/// What lies behind the IP header, as far as flows need it.
pub(super) struct TransportHeader {
    pub(super) kind: Kind,
    pub(super) event_kind: EventKind,
    source_port: Be16,
    destination_port: Be16,
}

impl TransportHeader {
    pub(super) const fn none(kind: Kind) -> Self {
        Self { kind, event_kind: EventKind::Datagram, source_port: Be16(0), destination_port: Be16(0) }
    }

    /// The two ports as one word of the packet.
    pub(super) const fn with_ports(word: u32, event_kind: EventKind) -> Self {
        let [source_first, source_second, destination_first, destination_second] = word.to_ne_bytes();
        Self {
            kind: Kind::Flow,
            event_kind,
            source_port: Be16(u16::from_ne_bytes([source_first, source_second])),
            destination_port: Be16(u16::from_ne_bytes([destination_first, destination_second])),
        }
    }

    pub(super) fn between<A>(&self, source: A, destination: A, protocol: u8) -> Tuple<A> {
        let Self { source_port, destination_port, .. } = *self;
        Tuple { source, destination, source_port, destination_port, protocol }
    }
}

impl<F: Headers> Packet<F> {
    /// Reads what lies `offset` bytes behind the start of the frame and is `length` bytes long. Each way writes what it has read:
    /// values that all ways have in common would be kept on the stack until they meet.
    #[inline(always)]
    pub(super) fn parse_transport(&mut self, ctx: &TcContext, offset: u32, protocol: u8, length: u32, part: Part) {
        if part == Part::Later {
            return self.enter(TransportHeader::none(Kind::StrayFragment));
        }
        match protocol {
            TCP if length >= 20 => match read_words::<4>(ctx, offset) {
                // Ports, sequence, acknowledgement, then offset and flags (RFC 9293 section 3.1).
                Some([ports, sequence, acknowledgement, word]) => {
                    let [offset, flags, _, _] = word.to_ne_bytes();
                    let length = length.saturating_sub(u32::from(offset >> 4) * 4);
                    self.segment = Segment {
                        flags: TcpFlags(flags),
                        sequence: u32::from_be(sequence),
                        acknowledgement: u32::from_be(acknowledgement),
                        length,
                    };
                    self.enter(TransportHeader::with_ports(ports, EventKind::Segment));
                }
                None => self.enter(TransportHeader::none(Kind::Malformed)),
            },
            UDP | UDP_LITE if length >= 8 => match read::<u32>(ctx, offset) {
                Some(ports) => self.enter(TransportHeader::with_ports(ports, EventKind::Datagram)),
                None => self.enter(TransportHeader::none(Kind::Malformed)),
            },
            protocol if protocol == F::ICMP && length >= 8 => match read_words::<2>(ctx, offset) {
                Some([first, second]) => {
                    let [icmp_type, _, _, _] = first.to_ne_bytes();
                    self.enter(icmp::<F>(icmp_type, second));
                }
                None => self.enter(TransportHeader::none(Kind::Malformed)),
            },
            TCP | UDP | UDP_LITE => self.enter(TransportHeader::none(Kind::Malformed)),
            protocol if protocol == F::ICMP => self.enter(TransportHeader::none(Kind::Malformed)),
            _ => self.enter(TransportHeader::none(Kind::Flow)),
        }
    }

    #[inline(always)]
    pub(super) fn enter(&mut self, transport: TransportHeader) {
        (self.kind, self.event_kind) = (transport.kind, transport.event_kind);
        (self.tuple.source_port, self.tuple.destination_port) = (transport.source_port, transport.destination_port);
    }
}

/// The identifier of an echo, or another query, is the port of the side that asks.
#[inline(always)]
pub(super) fn icmp<F: Headers>(icmp_type: u8, second_word: u32) -> TransportHeader {
    let [id_first, id_second, _, _] = second_word.to_ne_bytes();
    let identifier = Be16(u16::from_ne_bytes([id_first, id_second]));
    if F::is_query(icmp_type) {
        TransportHeader { source_port: identifier, ..TransportHeader::none(Kind::Flow) }
    } else if F::is_query_reply(icmp_type) {
        TransportHeader {
            destination_port: identifier,
            event_kind: EventKind::Reply,
            ..TransportHeader::none(Kind::Flow)
        }
    } else {
        TransportHeader::none(if F::is_icmp_error(icmp_type) { Kind::IcmpError } else { Kind::Opaque })
    }
}

/// [`read`] for words of 32 bits. Volatile: the compiler would read two at a time, to take them apart with more instructions.
#[inline(always)]
pub(super) fn read_words<const N: usize>(ctx: &TcContext, offset: u32) -> Option<[u32; N]> {
    let start = ctx.data() + offset as usize;
    if start + 4 * N <= ctx.data_end() {
        let words = start as *const u32;
        // SAFETY: as in `read`.
        return Some(core::array::from_fn(|index| unsafe { words.wrapping_add(index).read_volatile() }));
    }
    ctx.load(offset as usize).ok()
}

/// Reads integers at an offset of the frame.
#[inline(always)]
pub(super) fn read<T: Copy>(ctx: &TcContext, offset: u32) -> Option<T> {
    let start = ctx.data() + offset as usize;
    if start + size_of::<T>() <= ctx.data_end() {
        // SAFETY: inside the packet, as just checked and as the verifier proves. The address need not be a multiple of
        // the alignment: the verifier admits such loads only where the machine executes them (kernel/bpf/verifier.c,
        // check_ptr_alignment).
        return Some(unsafe { (start as *const T).read() });
    }
    ctx.load(offset as usize).ok()
}
